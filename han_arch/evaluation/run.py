"""Run a leaderboard: measure every contestant on every image, through the cache, and compare the scores."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.evaluation import comparison, contestants, cost, score
from han_arch.evaluation.board import Board
from han_arch.evaluation.comparison import Comparison, Published
from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.cost import Cost
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import PSNR, Measure, MeasuredImage, Score, ScoreCache, SetScore
from han_arch.evaluation.sets import EvaluationSet, TestImage
from han_arch.inference import variants

logger = logging.getLogger("han_arch")

Scores = dict[str, dict[str, Score]]  # set -> image -> score


@dataclass(frozen=True)
class FromFull:
    """Difference of a variant from the full image: mean PSNR in dB, largest sample difference in levels of 255."""

    psnr: float
    largest: int

    def __str__(self) -> str:
        return f"{self.psnr:+.3f} dB, largest pixel difference {self.largest}"


@dataclass(frozen=True)
class SetResult:
    """The numbers of one contestant and variant on one set.

    Attributes:
        contestant, variant, dataset: names.
        scores: image name -> score.
        pictures: image name -> key of the SR image in the cache.
        conditions: of the image that was measured last, see `cost.describe_conditions`.
        relative_time: its time / the baseline's, both of this run.
        published: the papers' score by the same protocol, if any.
        perceptual: name of an optional metric -> mean over the images that have a value.
        comparison: its PSNR against the baseline's; None for the baseline, and where the baseline has no result.
        from_full: difference of a variant from the same contestant's full image, if the board has that.
    """

    contestant: str
    variant: str
    dataset: str
    protocol: Protocol
    scores: dict[str, Score]
    pictures: dict[str, str]
    conditions: dict[str, str]
    weights_sha256: str
    cost: Cost
    relative_time: float
    published: Published | None
    perceptual: dict[str, float] = field(default_factory=dict)
    comparison: Comparison | None = None
    from_full: FromFull | None = None

    @property
    def mean(self) -> SetScore:
        """The mean over the set."""
        return score.mean_score(self.scores)

    @property
    def label(self) -> str:
        """Contestant and, unless it is the full image, variant."""
        return self.contestant if self.variant == variants.FULL else f"{self.contestant} ({self.variant})"


@dataclass(frozen=True)
class Trial:
    """One row of the board before it is measured."""

    contestant: Contestant
    variant: str
    dataset: EvaluationSet
    protocol: Protocol

    def key(self, cache: ScoreCache, image: TestImage) -> str:
        """Return the name of an image's measurement in the cache."""
        return cache.key(self.contestant.identity, self.variant, self.protocol, image.digest)


def run(board: Board, cache: ScoreCache, warn: Callable[[str], None] = logger.warning) -> list[SetResult]:
    """Measure all that the cache does not have and store it there, then measure the costs.

    Args:
        warn: called with a line for each optional metric that is not available.

    Returns:
        The results in the order of the board's sets and contestants.

    Raises:
        UserError: an image changed since it was checked.
    """
    measures, notes = score.load_metrics(board.perceptual, board.device)
    for note in notes:
        warn(note)
    trials = list(_list_trials(board))
    measured = _measure(trials, cache, cost.describe_conditions(board.device))
    costs = cost.measure(board.runs, board.protocol, board.lr_size, board.repeat)
    base_variant = next(one.variants[0] for one in board.contestants if one.name == board.baseline)
    base_seconds = costs[board.baseline, base_variant].seconds
    results = []
    for trial in trials:
        pictures = {image.name: trial.key(cache, image) for image in trial.dataset.images}
        own = {name: measured[key] for name, key in pictures.items()}
        own_cost = costs[trial.contestant.name, trial.variant]
        results.append(
            SetResult(
                contestant=trial.contestant.name,
                variant=trial.variant,
                dataset=trial.dataset.name,
                protocol=trial.protocol,
                scores={name: one.score for name, one in own.items()},
                pictures=pictures,
                conditions=max((one.conditions for one in own.values()), key=lambda c: c.get("date", "")),
                weights_sha256=trial.contestant.weights_sha256,
                cost=own_cost,
                relative_time=own_cost.seconds / base_seconds,
                published=_find_published(trial),
                perceptual={name: _measure_mean(name, one, trial, cache) for name, one in measures.items()},
            )
        )
    by_names = {(one.contestant, one.variant, one.dataset, one.protocol): one for one in results}
    return [
        replace(
            one,
            comparison=_compare(one, by_names.get((board.baseline, base_variant, one.dataset, one.protocol))),
            from_full=_compare_with_full(
                one, by_names.get((one.contestant, variants.FULL, one.dataset, one.protocol)), cache
            ),
        )
        for one in results
    ]


def measure_sets(
    name: str,
    options: Any,
    datasets: Sequence[EvaluationSet],
    keep: Callable[[str, str, np.ndarray], None] | None = None,
) -> Scores:
    """Score one contestant on all images of some sets, for a release: no board, no cache, a GPU if there is one.

    Args:
        name, options: of the contestant, as `contestants.build` takes them.
        datasets: from `sets.find_sets`, of one scale.
        keep: called with set, image and SR, uint8.

    Raises:
        UserError: `contestants.build` fails, or the network's output has nan or inf.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contestant = contestants.build(name, options, datasets[0].protocol.scale, device)
    scores: Scores = {dataset.name: {} for dataset in datasets}
    images = [(dataset, image) for dataset in datasets for image in dataset.images]
    for dataset, image in tqdm(images, unit="image", desc=f"measure {name}"):
        lq, gt = image.load(dataset.protocol)
        try:
            sr = contestant.upscale(lq, dataset.protocol)
        except FloatingPointError as error:
            raise UserError(f"{dataset.name} {image.name}: {error}") from error
        scores[dataset.name][image.name] = score.measure(sr, gt, dataset.protocol)
        if keep is not None:
            keep(dataset.name, image.name, sr)
    return scores


def _list_trials(board: Board) -> Iterator[Trial]:
    for dataset in board.sets:
        for contestant in board.contestants:
            for variant in contestant.variants:
                yield Trial(contestant, variant, dataset, dataset.protocol)
            # The published bicubic row of a set with grey images compares grey values: Bicubic is measured both ways.
            has_grey = any(image.grey for image in dataset.images)
            if contestant.net is None and dataset.protocol.grey == "as_rgb" and has_grey:
                yield Trial(contestant, variants.FULL, dataset, replace(dataset.protocol, grey="direct"))


def _measure(trials: Sequence[Trial], cache: ScoreCache, now: dict[str, str]) -> dict[str, MeasuredImage]:
    measured: dict[str, MeasuredImage] = {}
    missing: dict[tuple[Protocol, TestImage], list[Trial]] = {}
    for trial in trials:
        for image in trial.dataset.images:
            key = trial.key(cache, image)
            stored = cache.load(key, trial.protocol)
            if stored is not None:
                measured[key] = stored
            else:
                missing.setdefault((trial.protocol, image), []).append(trial)
    # All contestants take turns on an image, so that the first images already give the rate of the whole run.
    with tqdm(total=sum(map(len, missing.values())), unit="image", desc="measure", disable=not missing) as bar:
        for (protocol, image), waiting in missing.items():
            lq, gt = image.load(protocol)
            for trial in waiting:
                where = f"{trial.contestant.name} {trial.variant}, {trial.dataset.name} {image.name}"
                bar.set_postfix_str(where, refresh=False)
                try:
                    sr = trial.contestant.upscale(lq, protocol, trial.variant)
                    one = score.measure(sr, gt, protocol)
                except FloatingPointError:  # the tables name the image; the rest of the board is measured
                    sr, one = np.zeros_like(gt), Score(math.nan, math.nan, protocol)
                key = trial.key(cache, image)
                measured[key] = MeasuredImage(one, now)
                cache.store(key, measured[key], sr)
                bar.update()
    return measured


def _measure_mean(name: str, measure: Measure, trial: Trial, cache: ScoreCache) -> float:
    """Average an optional metric over the images that have a value, through the cache."""
    values = []
    for image in trial.dataset.images:
        key = trial.key(cache, image)
        value = cache.load_value(key, name)
        if value is None:
            _, gt = image.load(trial.protocol)
            value = measure(cache.load_picture(key), gt, trial.protocol)
            cache.store_value(key, name, value)
        values.append(value)
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _find_published(trial: Trial) -> Published | None:
    method = trial.contestant.published
    if method is None:
        return None
    return comparison.find_published(
        method + variants.published_suffix(trial.variant), trial.dataset.name, trial.protocol
    )


def _compare(result: SetResult, other: SetResult | None) -> Comparison | None:
    if other is None or other is result:
        return None
    psnr, base = ([one.scores[name].psnr for name in result.scores] for one in (result, other))
    return comparison.compare(psnr, base, PSNR)


def _compare_with_full(result: SetResult, full: SetResult | None, cache: ScoreCache) -> FromFull | None:
    if full is None or full is result:
        return None
    largest = 0
    for name, key in result.pictures.items():
        one, other = cache.load_picture(key), cache.load_picture(full.pictures[name])
        largest = max(largest, int(np.abs(one.astype(np.int16) - other).max()))
    return FromFull(result.mean.psnr - full.mean.psnr, largest)
