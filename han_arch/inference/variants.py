"""Variants of inference, by name: chop, self-ensemble and tiles. Each changes the result, so results name the variant.

HAN's attention is global over its input, so whatever divides the image changes the result.
"""

import re
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.tiles import OVERLAP, TILE, Tiling, assembled, in_tiles

Run = Callable[[Tensor], Tensor]  # (b, channels, h, w) -> (b, channels, scale*h, scale*w)

FULL = "full"
WANTED = f"{FULL}, or one or several of chop, self_ensemble, tiles, tiles-SIZE-OVERLAP, joined by +"
PATTERN = r"full|(?:PART)(?:\+(?:PART))*".replace("PART", r"chop|self_ensemble|tiles(?:-[1-9]\d*-\d+)?")
_TILES = re.compile(r"tiles(?:-(?P<size>[1-9]\d*)-(?P<overlap>\d+))?")
_OLD_TILES = re.compile(r"tiled((?:-\d+-\d+)?)")
CHOP_OVERLAP = 10  # LR pixels that a quadrant reaches beyond its half
CHOP_PIXELS = 160_000  # quadrants of this many LR pixels or more are split again


def check(variant: str) -> None:
    """Check a variant's name.

    A name is "full", or parts joined by "+", the innermost first: "chop+self_ensemble". "tiles" has the default
    numbers of `inference.tiles`; "tiles-64-8" has tiles of 64 LR pixels with an overlap of 8.

    Raises:
        UserError: unknown name.
    """
    parts = str(variant).split("+")
    for part in parts:
        if old := _OLD_TILES.fullmatch(part):
            raise UserError(f"variant {part!r} is now tiles{old[1]}: tiles are blended, so results differ; rename it")
    if not re.fullmatch(PATTERN, str(variant)) or len(set(parts)) < len(parts):
        raise UserError(f"variant must be {WANTED}; got {variant!r}")


def apply(variant: str, run: Run, scale: int) -> Run:
    """Return the network, of this scale, as the variant (a name that `check` accepts) runs it."""
    for part in variant.split("+"):
        run = _wrap(part, run, scale)
    return run


def _wrap(part: str, run: Run, scale: int) -> Run:
    if part == FULL:
        return run
    if part == "chop":
        return lambda lq: chop(run, lq, scale)
    if part == "self_ensemble":
        return lambda lq: self_ensemble(run, lq)
    match = _TILES.fullmatch(part)
    size, overlap = (int(match["size"]), int(match["overlap"])) if match and match["size"] else (TILE, OVERLAP)
    return lambda lq: in_tiles(run, lq, Tiling(lq.shape[-2], lq.shape[-1], scale, size, overlap))


def published_suffix(variant: str) -> str:
    """Return what papers append to a method's name for the variant: "+" for self-ensemble."""
    return "+" if "self_ensemble" in variant.split("+") else ""


def self_ensemble(run: Run, lq: Tensor) -> Tensor:
    """Return the mean of run's results for the eight flips and transposes of lq: the "+" of the papers' tables.

    lq is (b, channels, h, w). Each result is turned back; nothing is rounded or clamped before the mean.

    Source: Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016, section 3.
    """
    total: Tensor | None = None
    for transposed, flipped in product((False, True), ([], [-1], [-2], [-2, -1])):
        turned = torch.flip(lq.transpose(-2, -1) if transposed else lq, flipped)
        back = torch.flip(run(turned), flipped)
        back = back.transpose(-2, -1) if transposed else back
        total = back.clone() if total is None else total.add_(back)  # a stack would hold all eight
    return total.div_(8)  # type: ignore[union-attr]


def chop(run: Run, lq: Tensor, scale: int, overlap: int = CHOP_OVERLAP, max_pixels: int = CHOP_PIXELS) -> Tensor:
    """Super-resolve lq in at least four overlapping quadrants, stitched without blending.

    The HAN authors' published numbers were made with it.

    Args:
        run: the network.
        lq: (b, channels, h, w).
        scale: run's scale.
        overlap: LR pixels that each quadrant reaches beyond its half of the image.
        max_pixels: quadrants of this many LR pixels or more are chopped again.

    Returns:
        (b, channels, scale*h, scale*w).

    Raises:
        ValueError: overlap below 0, max_pixels too small for quadrants to get below it, or an empty lq.

    Source: the HAN authors' code, `forward_chop`, taken from EDSR's.
    """
    if overlap < 0 or max_pixels <= (2 * overlap + 2) ** 2:
        raise ValueError(
            f"chop needs overlap >= 0 and max_pixels > (2 * overlap + 2)^2; got {overlap} and {max_pixels}"
        )
    halves = [_halves(length, overlap) for length in lq.shape[2:]]

    def quadrants() -> Iterator[tuple[int, int, Tensor]]:
        for (top, bottom, row, row_end), (left, right, column, column_end) in product(*halves):
            quadrant = lq[..., top:bottom, left:right]
            large = quadrant.shape[2] * quadrant.shape[3] >= max_pixels
            part = chop(run, quadrant, scale, overlap, max_pixels) if large else run(quadrant)
            rows = slice(scale * (row - top), scale * (row_end - top))
            yield scale * row, scale * column, part[..., rows, scale * (column - left) : scale * (column_end - left)]

    return assembled(quadrants(), *(scale * length for length in lq.shape[2:]))


def _halves(length: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Return the parts along one side as (begin, end, kept from, kept to); one part for a side of one pixel."""
    half = length // 2
    size = min(length, half + overlap)
    parts = [(0, size, 0, half), (length - max(size, length - half), length, half, length)]
    return [part for part in parts if part[2] < part[3]]
