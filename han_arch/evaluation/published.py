"""Published results: what papers and others report, each number with its protocol and where it was read."""

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from han_arch.evaluation.protocol import GREY_RULES, Protocol
from han_arch.evaluation.score import Score

FILE = "published_results.csv"
# found: read in the named source. remeasured: somebody else's measurement of the authors' weights.
STATUSES = ("found", "remeasured")
# The protocols of the table that ours can reproduce -> crop_gt; rows of other protocols stay out.
CROPS = {"Y border=scale mod-scale": "mod-scale", "Y border=scale GTmod12": "GTmod12"}


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


@cache
def load() -> tuple[Published, ...]:
    """All rows of the table that comes with the package.

    Raises:
        ValueError: a row that is not to be printed, or of an unknown protocol; the table is damaged.
    """
    text = resources.files("han_arch.evaluation").joinpath(FILE).read_text("utf-8")
    return tuple(_parse(row) for row in csv.DictReader(text.splitlines()))


def find(method: str, dataset: str, protocol: Protocol) -> Published | None:
    """The published cell of a method on a set by the same protocol (but for LR's border, which papers do not state)."""
    for row in load():
        if (row.method, row.dataset, row.score.protocol.key) == (method, dataset, protocol.key):
            return row
    return None


def rows_for(protocol: Protocol, datasets: Iterable[str]) -> list[Published]:
    """All published cells on these sets by the same protocol as `find`, or by it but for the grey rule."""
    wanted = set(datasets)
    keys = {replace(protocol, grey=grey).key for grey in GREY_RULES}
    return [row for row in load() if row.dataset in wanted and row.score.protocol.key in keys]


def _parse(row: dict[str, str]) -> Published:
    if row["status"] not in STATUSES or not row["read_in"] or row["protocol"] not in CROPS:
        raise ValueError(f"{FILE} has a row that must not be printed: {row}")
    # Networks were scored on Set14's grey image as RGB; only the bicubic row compares its grey values.
    direct = row["method"] == "Bicubic" and row["dataset"] == "Set14"
    protocol = Protocol(
        row["degradation"],
        int(row["scale"]),
        crop_gt=CROPS[row["protocol"]],
        grey="direct" if direct else "as_rgb",
        lr_border="not stated",
    )
    ssim = float(row["ssim_y"]) if row["ssim_y"] else math.nan
    return Published(
        row["method"], row["dataset"], Score(float(row["psnr_y_db"]), ssim, protocol), row["read_in"], row["status"]
    )
