"""Decide whether two contestants differ on a set by more than chance, paired over the images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from han_arch.evaluation.metrics import PSNR, Metric

RESAMPLES, SEED, LEVEL = 9999, 0, 0.95


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


def compare(values: Sequence[float], baseline: Sequence[float], metric: Metric = PSNR) -> Comparison:
    """Compare the values of a contestant and of the baseline on the same images; skip images with nan or inf.

    The interval is the percentile bootstrap of the mean difference: 9999 resamples of the images, fixed seed. With
    five images the sign test cannot go below 0.0625, so no difference on Set5 alone is ever settled.

    Args:
        values: of the contestant, one for each image.
        baseline: of the baseline, in the same order.
        metric: decides which direction is better.

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
