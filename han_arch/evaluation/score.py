"""Scores of images, means of sets, and scores published in papers, each with its protocol."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from han_arch.data.benchmarks import BENCHMARKS
from han_arch.evaluation.metrics import PSNR, SSIM, measure_psnr, measure_ssim
from han_arch.evaluation.protocol import Protocol

PUBLISHED_FILE = "published_results.csv"
# found: read in the named source. remeasured: somebody else's measurement of the authors' weights.
STATUSES = ("found", "remeasured")
# Protocols of the published table that ours can reproduce -> crop_gt; the table has no rows of other protocols.
PUBLISHED_CROPS = {"Y border=scale mod-scale": "mod-scale", "Y border=scale GTmod12": "GTmod12"}


@dataclass(frozen=True)
class Score:
    """The score of one image: PSNR in dB and SSIM against HR, and their protocol."""

    psnr: float
    ssim: float
    protocol: Protocol

    @property
    def finite(self) -> bool:
        """Whether both are numbers: equal images have PSNR inf, images smaller than the window SSIM nan."""
        return math.isfinite(self.psnr) and math.isfinite(self.ssim)

    @property
    def cell(self) -> str:
        """Both numbers, for a table; its heading names the protocol."""
        return f"{self.psnr:.{PSNR.digits}f} dB / {self.ssim:.{SSIM.digits}f}"

    def __str__(self) -> str:
        return f"{self.cell} ({self.protocol})"


@dataclass(frozen=True)
class SetScore:
    """The mean over the images of a set.

    Attributes:
        mean: mean PSNR and SSIM of the images with finite metrics; nan when there is none.
        images: number of images in the mean.
        left_out: image name -> its score, for images with nan or inf.
    """

    mean: Score
    images: int
    left_out: Mapping[str, Score]

    @property
    def note(self) -> str:
        """The images that are not in the mean; "" when all are."""
        return "; ".join(f"{name}: {score.cell}, not averaged" for name, score in self.left_out.items())


@dataclass(frozen=True)
class Published:
    """One published cell.

    Attributes:
        method: as in the papers' tables; "+" means self-ensemble.
        dataset: a benchmark set.
        score: with its protocol; its SSIM is nan where the source has none.
        source: where it was read.
        status: one of `STATUSES`.
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


def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> Score:
    """Score an image against HR.

    Args:
        sr: uint8, (h, w, 3) RGB, or (h, w) grey.
        gt: the same shape, already cut by `Protocol.cut_gt`.
        protocol: compares grey images directly whatever its grey rule is; `sets.load_gt` follows the rule.

    Raises:
        ValueError: different shapes, or not uint8.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"the image must be as large as HR, {gt.shape}; got {sr.shape}")
    if sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"both images must be uint8, 0..255; got {sr.dtype} and {gt.dtype}")
    return Score(measure_psnr(sr, gt, protocol), measure_ssim(sr, gt, protocol), protocol)


def mean_score(scores: Mapping[str, Score]) -> SetScore:
    """Average a set's scores (image name -> score); leave out and name images with nan or inf.

    Raises:
        ValueError: no score, or scores of several protocols.
    """
    protocols = {score.protocol for score in scores.values()}
    if len(protocols) != 1:
        raise ValueError(f"a mean needs scores of one protocol; got {sorted(map(str, protocols)) or 'no scores'}")
    good = [score for score in scores.values() if score.finite]
    psnr = float(np.mean([score.psnr for score in good])) if good else math.nan
    ssim = float(np.mean([score.ssim for score in good])) if good else math.nan
    left_out = {name: score for name, score in scores.items() if not score.finite}
    return SetScore(Score(psnr, ssim, protocols.pop()), len(good), left_out)


def mean_scores(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Score]:
    """Return the mean of each set (set -> image -> score)."""
    return {name: mean_score(own).mean for name, own in scores.items()}


@cache
def load_published() -> tuple[Published, ...]:
    """Read the table of published scores that comes with the package.

    Raises:
        ValueError: a row without source or of an unknown protocol.
    """
    text = resources.files("han_arch.evaluation").joinpath(PUBLISHED_FILE).read_text("utf-8")
    return tuple(parse_published(row) for row in csv.DictReader(text.splitlines()))


def find_published(method: str, dataset: str, protocol: Protocol) -> Published | None:
    """Find the published score of a method on a set by the protocol; papers do not state LR's border."""
    for row in load_published():
        if (row.method, row.dataset, row.score.protocol.key) == (method, dataset, protocol.key):
            return row
    return None


def published_on(datasets: Iterable[str], protocol: Protocol) -> list[Published]:
    """List the published scores on some sets by the protocol; papers do not state LR's border."""
    wanted = set(datasets)
    return [row for row in load_published() if row.dataset in wanted and row.score.protocol.key == protocol.key]


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
