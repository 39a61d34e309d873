"""Compare results with scores published in papers, and with the baseline, paired over the images."""

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
# found: read in the named source. remeasured: somebody else's measurement of the authors' weights.
STATUSES = ("found", "remeasured")
# Protocols of the published table that ours can reproduce -> crop_gt; the table has no rows of other protocols.
PUBLISHED_CROPS = {"Y border=scale mod-scale": "mod-scale", "Y border=scale GTmod12": "GTmod12"}
RESAMPLES, SEED, LEVEL = 9999, 0, 0.95


@dataclass(frozen=True)
class Published:
    """A score that the papers print for a method on a benchmark set; SSIM is nan where the source has none.

    "+" at the end of a method means self-ensemble. The status is one of `STATUSES`.
    """

    method: str
    dataset: str
    score: Score
    source: str
    status: str

    @property
    def cell(self) -> str:
        """The score for a table, without a missing SSIM."""
        return self.score.cell.removesuffix(" / nan")


@dataclass(frozen=True)
class Comparison:
    """One contestant against the baseline on one set.

    Attributes:
        images: number of images with finite values of both.
        difference: mean of contestant minus baseline.
        low, high: ends of the 95 % bootstrap interval of that mean; nan for fewer than two images.
        wins, losses: images on which the contestant is better, worse.
        p_value: two-sided sign test; 1 when no image differs.
        metric: of the values.
    """

    images: int
    difference: float
    low: float
    high: float
    wins: int
    losses: int
    p_value: float
    metric: Metric = PSNR

    @property
    def verdict(self) -> str:
        """Return "ahead", "behind", or "not settled" when the interval holds 0 or the sign test is above 5 %."""
        if self.p_value >= 1 - LEVEL or not (self.low > 0 or self.high < 0):
            return "not settled"
        return "ahead" if (self.difference > 0) == self.metric.higher_is_better else "behind"


@cache
def load_published() -> tuple[Published, ...]:
    """Read the table of published scores that comes with the package, each row by `parse_published`."""
    text = resources.files("han_arch.evaluation").joinpath(PUBLISHED_FILE).read_text("utf-8")
    return tuple(parse_published(row) for row in csv.DictReader(text.splitlines()))


def find_published(method: str, dataset: str, protocol: Protocol) -> Published | None:
    """Find the published score of a method on a set by the protocol."""
    return next((row for row in published_on([dataset], protocol) if row.method == method), None)


def published_on(datasets: Collection[str], protocol: Protocol) -> list[Published]:
    """List the published scores on some sets by the protocol; papers do not state LR's border."""
    return [row for row in load_published() if row.dataset in datasets and row.score.protocol.key == protocol.key]


def parse_published(row: Mapping[str, str]) -> Published:
    """Read one row of the published table.

    Raises:
        ValueError: no source, an unknown status or an unknown protocol.
    """
    if row["status"] not in STATUSES or not row["read_in"] or row["protocol"] not in PUBLISHED_CROPS:
        raise ValueError(f"{PUBLISHED_FILE}: a row without source, or of unknown status or protocol: {row}")
    # The papers score networks on a grey image (Set14 has one) as RGB; only their bicubic row compares its grey values.
    has_grey = row["dataset"] in BENCHMARKS and bool(BENCHMARKS[row["dataset"]].grey)
    direct = row["method"] == "Bicubic" and has_grey
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
    """Compare the values of a contestant and of the baseline on the same images; skip images with nan or inf.

    The interval is the percentile bootstrap of the mean difference: 9999 resamples of the images, fixed seed. With
    five images the sign test cannot go below 0.0625, so no difference on Set5 alone is ever settled.

    Raises:
        ValueError: not the same number of values.
    """
    if len(values) != len(baseline):
        raise ValueError(f"both need the same images; got {len(values)} and {len(baseline)} values")
    with np.errstate(invalid="ignore"):
        difference = np.asarray(values, np.float64) - np.asarray(baseline, np.float64)
    difference = difference[np.isfinite(difference)]
    above, below = int((difference > 0).sum()), int((difference < 0).sum())
    wins, losses = (above, below) if metric.higher_is_better else (below, above)
    p_value = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    mean = float(difference.mean()) if len(difference) else math.nan
    low, high = _interval(difference)
    return Comparison(len(difference), mean, low, high, wins, losses, p_value, metric)


def _interval(difference: np.ndarray) -> tuple[float, float]:
    if len(difference) < 2:
        return math.nan, math.nan
    interval = stats.bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval  # fmt: skip
    return float(interval.low), float(interval.high)
