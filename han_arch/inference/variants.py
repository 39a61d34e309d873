"""Variants of inference: chop, self-ensemble and tiles. Each variant changes the pixels, and therefore the scores."""

import re
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.tiles import Tiling, assembled, in_tiles

Run = Callable[[Tensor], Tensor]  # (b, channels, h, w) -> (b, channels, scale*h, scale*w)

FULL = "full"
WANTED = f"{FULL}, or one or more of chop, self_ensemble, tiles, tiles-SIZE-OVERLAP, joined by +"
PATTERN = r"full|(?:PART)(?:\+(?:PART))*".replace("PART", r"chop|self_ensemble|tiles(?:-[1-9]\d*-\d+)?")
_OLD_TILES = re.compile(r"tiled((?:-\d+-\d+)?)")
CHOP_OVERLAP = 10  # number of LR pixels that a quadrant's side is longer than half of the image's side
CHOP_PIXELS = 160_000  # quadrants with this number of LR pixels or more are split again


def check(variant: str) -> None:
    """Check that the name of a variant is valid.

    For example, "chop+self_ensemble" averages eight outputs of chop. "tiles" uses the default size and overlap of
    `Tiling`. "tiles-64-8" uses tiles with sides of 64 LR pixels and an overlap of 8 LR pixels.

    Raises:
        UserError: the name is not valid.
    """
    parts = str(variant).split("+")
    for part in parts:
        if old := _OLD_TILES.fullmatch(part):
            raise UserError(
                f"variant {part!r} was renamed; use tiles{old[1]}. Tiles are now blended, so old and new scores differ"
            )
    if not re.fullmatch(PATTERN, str(variant)) or len(set(parts)) < len(parts):
        raise UserError(f"variant must be {WANTED}; got {variant!r}")


def apply(variant: str, run: Run, scale: int) -> Run:
    """Return a function that upscales images. It uses the network `run` and a valid inference variant (see `check`)."""
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
    numbers = [int(number) for number in part.split("-")[1:]]  # the size and overlap in "tiles-SIZE-OVERLAP"
    return lambda lq: in_tiles(run, lq, Tiling(lq.shape[-2], lq.shape[-1], scale, *numbers))


def published_suffix(variant: str) -> str:
    """Return the suffix that papers append to a method's name: "+" for self-ensemble, "" for other variants."""
    return "+" if "self_ensemble" in variant.split("+") else ""


def self_ensemble(run: Run, lq: Tensor) -> Tensor:
    """Return the mean of the network's outputs for the eight flips and transposes of lq.

    lq is (b, channels, h, w), and run is the network. Values are not rounded or clamped. Papers mark this method
    with "+".

    Source: Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016, section 3.
    """
    total: Tensor | None = None
    for transposed, flipped in product((False, True), ([], [-1], [-2], [-2, -1])):
        turned = torch.flip(lq.transpose(-2, -1) if transposed else lq, flipped)
        back = torch.flip(run(turned), flipped)
        back = back.transpose(-2, -1) if transposed else back
        total = back.clone() if total is None else total.add_(back)  # torch.stack would keep eight in memory
    return total.div_(8)  # type: ignore[union-attr]


def chop(run: Run, lq: Tensor, scale: int, overlap: int = CHOP_OVERLAP, max_pixels: int = CHOP_PIXELS) -> Tensor:
    """Super-resolve images in four overlapping quadrants, and join the outputs without blending.

    The HAN authors used this method for their published scores. run is the network. lq is (b, channels, h, w), and
    the output is (b, channels, scale*h, scale*w). A quadrant has half of the height and width plus `overlap` LR pixels.
    Quadrants with max_pixels LR pixels or more are split again.

    Raises:
        ValueError: overlap is below 0, lq is empty, or max_pixels is so small that splitting would not end.

    Source: the function `forward_chop` in the HAN authors' code, which they took from EDSR.
    """
    if max_pixels <= (least := (2 * overlap + 2) ** 2) or overlap < 0:
        raise ValueError(f"chop needs overlap >= 0 and max_pixels > {least}; got {overlap} and {max_pixels}")
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
    """Split a side into two overlapping parts; a side of one pixel gives one part.

    For each part, return its start and end, and the start and end of the kept pixels.
    """
    half = length // 2
    size = min(length, half + overlap)
    parts = [(0, size, 0, half), (length - max(size, length - half), length, half, length)]
    return [part for part in parts if part[2] < part[3]]
