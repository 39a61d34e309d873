"""Run a leaderboard: measure all contestants on all images, store the scores in a cache, and compare them."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from han_arch.errors import UserError, printable, reason
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

Scores = dict[str, dict[str, Score]]  # set name -> image name -> score


@dataclass(frozen=True)
class FromFull:
    """The difference of an inference variant from the variant "full" of the same contestant."""

    psnr: float  # mean PSNR of the variant minus that of "full", in dB, over images with finite values; nan without any
    largest: int | None  # largest absolute difference of pixel values (0..255) in all SR images; None without images

    def __str__(self) -> str:
        if self.largest is None:
            return "-, because no image has an SR image of both"
        return f"{score.number(self.psnr, 3, True)} dB; pixel values differ by at most {self.largest} of 255"


@dataclass(frozen=True)
class SetResult:
    """The measured result of one contestant in one inference variant on one test set."""

    contestant: str  # name of the contestant
    variant: str
    dataset: str  # name of the test set
    protocol: Protocol
    scores: dict[str, Score]  # image name -> score
    pictures: dict[str, str]  # image name -> key of the SR image in the cache; without images that failed
    conditions: dict[str, str]  # conditions of the image that was measured last, see `cost.describe_conditions`
    weights_sha256: str  # SHA-256 of the checkpoint file; "" for Bicubic
    cost: Cost  # measured again in every run
    relative_time: float  # `cost.seconds` divided by the baseline's `cost.seconds`
    published: Published | None  # published score of this contestant with the same protocol
    perceptual: dict[str, float] = field(default_factory=dict)  # optional metric -> mean of the finite values
    perceptual_images: dict[str, int] = field(default_factory=dict)  # optional metric -> number of finite values
    comparison: Comparison | None = None  # with the baseline, by PSNR; None for the baseline, or if it has no result
    from_full: FromFull | None = None  # None for the variant "full", or if "full" was not measured

    @property
    def mean(self) -> SetScore:
        """The mean score over the images of the test set."""
        return score.mean_score(self.scores)

    @property
    def minus_published_db(self) -> float | None:
        """The mean PSNR minus the published PSNR, in dB; None without a published score or a mean over all images."""
        whole = self.published is not None and not self.mean.left_out
        return self.mean.psnr - self.published.score.psnr if self.published and whole else None

    @property
    def minus_published_ssim(self) -> float | None:
        """The mean SSIM minus the published SSIM; None without a published score or a mean over all images."""
        whole = self.published is not None and not self.mean.left_out
        return self.mean.ssim - self.published.score.ssim if self.published and whole else None

    @property
    def label(self) -> str:
        """The contestant's name, with the variant in brackets if the variant is not "full"."""
        return contestants.label(self.contestant, self.variant)

    @property
    def failures(self) -> dict[str, str]:
        """The images that could not be measured: image name -> error."""
        return {name: one.failure for name, one in self.scores.items() if one.failure}


@dataclass(frozen=True)
class Trial:
    """What to measure for one row of the leaderboard: a contestant, an inference variant, and a test set."""

    contestant: Contestant
    variant: str
    dataset: EvaluationSet

    def key(self, cache: ScoreCache, image: TestImage) -> str:
        """Return the key under which the cache stores the measurement of an image."""
        return cache.key(self.contestant.identity, self.variant, self.dataset.protocol, image.digest)


def run(board: Board, cache: ScoreCache, warn: Callable[[str], None] = logger.warning) -> list[SetResult]:
    """Measure all images that are not in the cache, store their scores in the cache, and then measure the costs.

    Return the results in the order of the leaderboard's test sets and contestants. An image that a contestant cannot
    upscale, or that changed after `board.load`, is in `SetResult.failures`; the others are measured. Call `warn` with
    one line for each reason why optional metrics are skipped.
    """
    measures, notes = score.load_metrics(board.perceptual, board.device)
    for note in notes:
        warn(note)
    trials = list(_trials(board))
    measured = _measure(trials, cache, cost.describe_conditions(board.device))
    costs = cost.measure(board.runs, board.protocol, board.lr_size, board.repeat)
    base_variant = next(one.variants[0] for one in board.contestants if one.name == board.baseline)
    base_seconds = costs[board.baseline, base_variant].seconds
    results = []
    for trial in trials:
        contestant, dataset = trial.contestant, trial.dataset
        keys = {image.name: trial.key(cache, image) for image in dataset.images}
        own = {name: measured[key] for name, key in keys.items()}
        pictures = {name: key for name, key in keys.items() if not own[name].score.failure}
        optional = {name: _measure_optional(name, one, trial, pictures, cache) for name, one in measures.items()}
        own_cost = costs[contestant.name, trial.variant]
        method = contestant.published + variants.published_suffix(trial.variant)
        results.append(
            SetResult(
                contestant=contestant.name,
                variant=trial.variant,
                dataset=dataset.name,
                protocol=dataset.protocol,
                scores={name: one.score for name, one in own.items()},
                pictures=pictures,
                conditions=max((one.conditions for one in own.values()), key=lambda c: c.get("date", "")),
                weights_sha256=contestant.weights_sha256,
                cost=own_cost,
                relative_time=own_cost.seconds / base_seconds,
                published=comparison.find_published(method, dataset.name, dataset.protocol),
                perceptual={name: score.finite_mean(values) for name, values in optional.items()},
                perceptual_images={name: sum(map(math.isfinite, values)) for name, values in optional.items()},
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


def list_failures(results: Sequence[SetResult]) -> list[str]:
    """Return one line for each row of the leaderboard with images that could not be measured."""
    lines = []
    for name in dict.fromkeys(result.label for result in results):
        own = [result for result in results if result.label == name]
        errors = [f"{one.dataset} {image}: {error}" for one in own for image, error in one.failures.items()]
        if errors:
            count = f"{len(errors)} of {sum(len(one.scores) for one in own)} images"
            lines.append(printable(f"{name}: {count} could not be measured, first {errors[0]}"))
    return lines


def measure_sets(
    name: str,
    options: Any,
    datasets: Sequence[EvaluationSet],
    keep: Callable[[str, str, np.ndarray], None] | None = None,
) -> Scores:
    """Measure one contestant on all images of test sets, without a cache. Use a GPU if there is one.

    Args:
        name: name of the contestant.
        options: options of the contestant, see `contestants.build`.
        datasets: the test sets, all with the same scale.
        keep: function that is called for each image with the set name, the image name and the uint8 SR image.

    Raises:
        UserError: the contestant cannot be built, or the output of its network has nan or inf.
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


def _trials(board: Board) -> Iterator[Trial]:
    for dataset in board.sets:
        for contestant in board.contestants:
            for variant in contestant.variants:
                yield Trial(contestant, variant, dataset)
            # Papers compare grey values to score bicubic on grey images, so measure Bicubic also with this rule.
            has_grey = any(image.grey for image in dataset.images)
            if contestant.net is None and dataset.protocol.grey == "as_rgb" and has_grey:
                direct = replace(dataset.protocol, grey="direct")
                yield Trial(contestant, variants.FULL, replace(dataset, protocol=direct))


def _measure(trials: Sequence[Trial], cache: ScoreCache, now: dict[str, str]) -> dict[str, MeasuredImage]:
    measured: dict[str, MeasuredImage] = {}
    missing: dict[tuple[Protocol, TestImage], list[Trial]] = {}
    for trial in trials:
        for image in trial.dataset.images:
            key = trial.key(cache, image)
            stored = cache.load(key, trial.dataset.protocol)
            if stored is not None:
                measured[key] = stored
            else:
                missing.setdefault((trial.dataset.protocol, image), []).append(trial)
    # Run all contestants on one image before the next image, so that the progress bar soon shows the speed of the run.
    with tqdm(total=sum(map(len, missing.values())), unit="image", desc="measure", disable=not missing) as bar:
        for (protocol, image), waiting in missing.items():
            try:
                pair, changed = image.load(protocol), ""
            except Exception as error:  # the file has changed; decoders may raise any exception
                pair, changed = None, reason(error)
            for trial in waiting:
                where = f"{trial.contestant.name} {trial.variant}, {trial.dataset.name} {image.name}"
                bar.set_postfix_str(printable(where), refresh=False)
                one, sr = _upscale(trial, *pair) if pair else (_failed(protocol, changed), None)
                key = trial.key(cache, image)
                measured[key] = MeasuredImage(one, now)
                if sr is not None:
                    cache.store(key, measured[key], sr)
                bar.update()
    return measured


def _upscale(trial: Trial, lq: np.ndarray, gt: np.ndarray) -> tuple[Score, np.ndarray | None]:
    """Return the score and the SR image. If the network fails, return a score with its error, and no image."""
    protocol = trial.dataset.protocol
    try:
        sr = trial.contestant.upscale(lq, protocol, trial.variant)
        return score.measure(sr, gt, protocol), sr
    except Exception as error:  # continue with the other images; networks of other packages may raise any exception
        failure = str(error) if isinstance(error, FloatingPointError) else reason(error)
        return _failed(protocol, failure), None


def _failed(protocol: Protocol, failure: str) -> Score:
    return Score(math.nan, math.nan, protocol, failure=failure)


def _measure_optional(
    name: str, measure: Measure, trial: Trial, pictures: Mapping[str, str], cache: ScoreCache
) -> list[float]:
    """Return the values of an optional metric: one for each image with an SR image."""
    values, protocol = [], trial.dataset.protocol
    for image in trial.dataset.images:
        if (key := pictures.get(image.name)) is None:
            continue
        value = cache.load_value(key, name)
        if value is None:
            try:
                _, gt = image.load(protocol)
                value = measure(cache.load_picture(key), gt, protocol)
            except Exception as error:  # the file has changed; metrics of other packages may raise any exception
                logger.warning("%s of %s was not measured: %s", name, printable(image.name), reason(error))
                values.append(math.nan)
                continue
            cache.store_value(key, name, value)
        values.append(value)
    return values


def _compare(result: SetResult, other: SetResult | None) -> Comparison | None:
    if other is None or other is result:
        return None
    psnr, base = ([one.scores[name].psnr for name in result.scores] for one in (result, other))
    return comparison.compare(psnr, base, PSNR)


def _compare_with_full(result: SetResult, full: SetResult | None, cache: ScoreCache) -> FromFull | None:
    if full is None or full is result:
        return None
    common = [name for name in result.pictures if name in full.pictures]
    gains, largest = [], []
    for name in common:
        one, other = (cache.load_picture(which.pictures[name]) for which in (result, full))
        largest.append(int(np.abs(one.astype(np.int16) - other).max()))
        if result.scores[name].finite and full.scores[name].finite:
            gains.append(result.scores[name].psnr - full.scores[name].psnr)
    return FromFull(score.finite_mean(gains), max(largest, default=None))
