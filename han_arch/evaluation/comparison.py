"""Find published scores, and test whether a contestant is better or worse than the baseline."""

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from scipy import stats

from han_arch.data.benchmarks import BENCHMARKS
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import PSNR, Metric, Score

PUBLISHED_FILE = "published_results.csv"
# found: the score as its source states it. remeasured: other people measured the authors' weights.
STATUSES = ("found", "remeasured")
# Text of the column "protocol" of the published table -> `Protocol.crop_gt`. The table has no other protocols.
PUBLISHED_CROPS = {"Y border=scale mod-scale": "mod-scale", "Y border=scale GTmod12": "GTmod12"}
RESAMPLES, SEED, LEVEL = 9999, 0, 0.95


@dataclass(frozen=True)
class Published:
    """A published score of a method on a test set."""

    method: str  # name of the method; a "+" at its end means self-ensemble
    dataset: str  # name of the test set
    score: Score  # mean PSNR and SSIM on the test set; SSIM is nan if the source does not state it
    source: str  # paper or web page that states the score
    status: str  # one of STATUSES

    @property
    def cell(self) -> str:
        """The text for a table cell: PSNR and SSIM, or only PSNR if the source does not state SSIM."""
        return self.score.cell.removesuffix(" / -")


@dataclass(frozen=True)
class Comparison:
    """The comparison of a contestant with the baseline on one test set, by one metric."""

    images: int  # number of images for which the contestant and the baseline have finite values
    difference: float  # mean over these images of the contestant's value minus the baseline's value
    low: float  # lower end of the 95 % bootstrap interval of `difference`; nan for fewer than two images
    high: float  # upper end of the same interval
    wins: int  # number of images on which the contestant is better than the baseline
    losses: int  # number of images on which the contestant is worse than the baseline
    p_value: float  # p-value of the two-sided sign test; 1 if the values are equal on all images
    metric: Metric = PSNR

    @property
    def verdict(self) -> str:
        """The result: the contestant is "ahead" of the baseline, "behind" it, or the comparison is "not settled".

        "not settled" means that the interval from `low` to `high` contains 0, or that `p_value` is 5 % or more.
        """
        if self.p_value >= 1 - LEVEL or not (self.low > 0 or self.high < 0):
            return "not settled"
        return "ahead" if (self.difference > 0) == self.metric.higher_is_better else "behind"


@cache
def load_published() -> tuple[Published, ...]:
    """Read the package's table of published scores."""
    text = resources.files("han_arch.evaluation").joinpath(PUBLISHED_FILE).read_text("utf-8")
    return tuple(parse_published(row) for row in csv.DictReader(text.splitlines()))


def find_published(method: str, dataset: str, protocol: Protocol) -> Published | None:
    """Return a method's published score on a test set for a protocol; None if the table does not have this score."""
    return next((row for row in published_on([dataset], protocol) if row.method == method), None)


def published_on(datasets: Collection[str], protocol: Protocol) -> list[Published]:
    """Return all published scores on some test sets for a protocol. Ignore `lr_border`, because papers omit it."""
    return [row for row in load_published() if row.dataset in datasets and row.score.protocol.key == protocol.key]


def parse_published(row: Mapping[str, str]) -> Published:
    """Read a row of the published table. Raise ValueError if its source, status or protocol is missing or wrong."""
    if row["status"] not in STATUSES or not row["read_in"] or row["protocol"] not in PUBLISHED_CROPS:
        raise ValueError(f"a row of {PUBLISHED_FILE} has no source, or a wrong status or protocol: {row}")
    # Papers convert grey images (Set14 has one) to RGB to score networks, but compare grey values to score bicubic.
    benchmark = BENCHMARKS.get(row["dataset"])
    direct = row["method"] == "Bicubic" and benchmark is not None and bool(benchmark.grey)
    protocol = Protocol(
        row["degradation"],
        int(row["scale"]),
        crop_gt=PUBLISHED_CROPS[row["protocol"]],
        grey="direct" if direct else "as_rgb",
        lr_border="not stated",
    )
    ssim = float(row["ssim_y"]) if row["ssim_y"] else math.nan
    score = Score(float(row["psnr_y_db"]), ssim, protocol)
    return Published(row["method"], row["dataset"], score, row["read_in"], row["status"])


def compare(values: Sequence[float], baseline: Sequence[float], metric: Metric = PSNR) -> Comparison:
    """Compare a contestant with the baseline on the same images. Skip an image if one of the two values is nan or inf.

    `low` and `high` of the result come from a percentile bootstrap with 9999 resamples of the images and a fixed seed.
    `verdict` of the result is always "not settled" for five images or fewer, because the p-value of the sign test is
    then at least 0.0625. Set5 has five images.

    Args:
        values: the contestant's values of the metric, one per image.
        baseline: the baseline's values, for the same images in the same order.

    Raises:
        ValueError: `values` and `baseline` have different lengths.
    """
    if len(values) != len(baseline):
        raise ValueError(
            f"contestant and baseline must have the same number of values; got {len(values)} and {len(baseline)}"
        )
    with np.errstate(invalid="ignore"):
        difference = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    difference = difference[np.isfinite(difference)]
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    wins, losses = (above, below) if metric.higher_is_better else (below, above)
    p_value = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    mean = float(difference.mean()) if len(difference) else math.nan
    low = high = math.nan
    if len(difference) > 1:
        generator = np.random.default_rng(SEED)
        low, high = stats.bootstrap(
            (difference,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile", rng=generator
        ).confidence_interval
    return Comparison(len(difference), mean, float(low), float(high), wins, losses, p_value, metric)
