"""Runs a leaderboard: every model over every image, through the cache, and what the numbers say against each other."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from han_arch.evaluation import conditions, cost, full_image, published, statistics
from han_arch.evaluation import score as scoring
from han_arch.evaluation.board import Board, Entrant
from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.cost import Cost
from han_arch.evaluation.full_image import FromFull
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.published import Published
from han_arch.evaluation.score import Score, SetScore
from han_arch.evaluation.score_cache import Entry, ScoreCache
from han_arch.evaluation.sets import EvaluationSet, Pair
from han_arch.evaluation.statistics import Comparison
from han_arch.inference import variants


@dataclass(frozen=True)
class Result:
    """One model and variant on one set.

    Attributes:
        model, variant, dataset: which.
        protocol: of all its numbers.
        scores: image name -> score.
        pictures: image name -> key of the SR image in the cache.
        conditions: of the image that was measured last, see `conditions.describe`.
        weights_sha256: of the checkpoint.
        cost: of the model and variant.
        relative_time: its time / the baseline's, both of this run.
        published: what the papers have for it by the same protocol.
        comparison: its PSNR against the baseline's; None for the baseline and where that has none by the protocol.
        perceptual: metric name -> mean over the images that have a value, on RGB without the protocol's border.
        from_full: for a variant, what it changes against the same model's full image, if the board has that.
    """

    model: str
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
    comparison: Comparison | None = None
    from_full: FromFull | None = None
    perceptual: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> SetScore:
        """The mean over the set."""
        return scoring.mean_score(self.scores)

    @property
    def label(self) -> str:
        """Model and, unless it is the full image, variant."""
        return self.model if self.variant == variants.FULL else f"{self.model} ({self.variant})"


@dataclass(frozen=True)
class _Job:
    entrant: Entrant
    variant: str
    dataset: EvaluationSet
    protocol: Protocol

    @property
    def model(self) -> Contestant:
        return self.entrant.model


def run(board: Board, cache: ScoreCache) -> list[Result]:
    """Measure what the cache does not have, then the costs; results in the order of the board's sets and models.

    Raises:
        UserError: an image changed since it was checked.
    """
    now = conditions.describe(board.device)
    jobs = list(_jobs(board))
    entries = _measure(jobs, cache, now)
    costs = cost.measure(board.runs, board.protocol, board.lr_size, board.repeat)
    first_variant = next(e.variants[0] for e in board.entrants if e.model.name == board.baseline)
    base_seconds = costs[board.baseline, first_variant].seconds
    results = []
    for job in jobs:
        own = {pair.name: entries[_key(cache, job, pair)] for pair in job.dataset.pairs}
        one_cost = costs[job.model.name, job.variant]
        results.append(
            Result(
                model=job.model.name,
                variant=job.variant,
                dataset=job.dataset.name,
                protocol=job.protocol,
                scores={name: entry.score for name, entry in own.items()},
                pictures={pair.name: _key(cache, job, pair) for pair in job.dataset.pairs},
                conditions=max((entry.conditions for entry in own.values()), key=lambda c: c.get("date", "")),
                weights_sha256=job.model.weights_sha256,
                cost=one_cost,
                relative_time=one_cost.seconds / base_seconds,
                published=_published(job),
            )
        )
    return [
        replace(
            result,
            comparison=_against_baseline(result, results, board.baseline, first_variant),
            from_full=_against_full(result, results, cache),
        )
        for result in results
    ]


def _jobs(board: Board) -> Iterator[_Job]:
    for dataset in board.sets:
        for entrant in board.entrants:
            for variant in entrant.variants:
                yield _Job(entrant, variant, dataset, dataset.protocol)
            # The published bicubic row of a set with grey images compares their grey values: it is measured both ways.
            if entrant.model.net is None and dataset.protocol.grey == "as_rgb" and any(p.grey for p in dataset.pairs):
                yield _Job(entrant, variants.FULL, dataset, replace(dataset.protocol, grey="direct"))


def _key(cache: ScoreCache, job: _Job, pair: Pair) -> str:
    return cache.key(job.model.identity, job.variant, job.protocol, pair.digest)


def _measure(jobs: list[_Job], cache: ScoreCache, now: dict[str, str]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    missing: dict[tuple[Protocol, Pair], list[_Job]] = {}
    for job in jobs:
        for pair in job.dataset.pairs:
            key = _key(cache, job, pair)
            stored = cache.load(key, job.protocol)
            if stored is not None:
                entries[key] = stored
            else:
                missing.setdefault((job.protocol, pair), []).append(job)
    # All models take turns on an image, so that the rate, and with it the ETA, soon is that of the whole run.
    with tqdm(total=sum(map(len, missing.values())), unit="image", desc="measure", disable=not missing) as bar:
        for (protocol, pair), waiting in missing.items():
            lq, gt = pair.load(protocol)
            for job in waiting:
                bar.set_postfix_str(f"{job.model.name} {job.variant}, {job.dataset.name} {pair.name}", refresh=False)
                try:
                    sr = job.model.upscale(lq, protocol, job.variant)
                    score = scoring.measure(sr, gt, protocol)
                except FloatingPointError:  # named in the tables; the rest of the board goes on
                    sr, score = np.zeros_like(gt), Score(math.nan, math.nan, protocol)
                key = _key(cache, job, pair)
                entries[key] = Entry(score, now)
                cache.store(key, entries[key], sr)
                bar.update()
    return entries


def _published(job: _Job) -> Published | None:
    if job.entrant.published is None:
        return None
    method = job.entrant.published + variants.published_suffix(job.variant)
    return published.find(method, job.dataset.name, job.protocol)


def _against_baseline(result: Result, results: list[Result], baseline: str, variant: str) -> Comparison | None:
    other = _find(results, baseline, variant, result)
    if other is None or other is result:
        return None
    names = list(result.scores)
    return statistics.compare([result.scores[name].psnr for name in names], [other.scores[name].psnr for name in names])


def _against_full(result: Result, results: list[Result], cache: ScoreCache) -> FromFull | None:
    other = _find(results, result.model, variants.FULL, result)
    if other is None or other is result:
        return None
    return full_image.compare(result.scores, other.scores, result.pictures, other.pictures, cache)


def _find(results: list[Result], model: str, variant: str, like: Result) -> Result | None:
    for other in results:
        if (other.model, other.variant, other.dataset, other.protocol) == (
            model, variant, like.dataset, like.protocol,
        ):  # fmt: skip
            return other
    return None
