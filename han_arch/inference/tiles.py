"""Overlapping tiles, blended across their borders; produced block by block, so that no whole image of floats is held.

Each tile is computed with `overlap` LR pixels of context on every side. The outer half of the context is thrown away,
because zero padding spoils it. Over the inner half, the weight passes linearly from one tile to the next: HAN's
attention is global over its input, so neighbouring tiles differ slightly. A convolutional network that reaches at most
half the overlap gives the whole image's result.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# Default numbers, in LR pixels. docs/upscale.md shows what the overlap is worth.
TILE = 96  # a tile's side without overlap, in validation and on boards; upscale chooses it by its memory budget
OVERLAP = 32
SMALLEST_TILE = 32  # of upscale

Region = tuple[int, int, int, int]  # top, bottom, left, right, in LR pixels


@dataclass(frozen=True)
class Span:
    """A tile's place along one side, in LR pixels.

    `low` to `high` goes into the network; of its result, `first` to `last` is used. The first `fade_in` and the last
    `fade_out` of these are blended with the neighbours.
    """

    low: int
    high: int
    first: int
    last: int
    fade_in: int
    fade_out: int


@dataclass(frozen=True)
class Tiling:
    """An image's division into tiles.

    Attributes:
        height, width: LR pixels of the image.
        scale: the network's scale.
        size: the largest side of a tile, in LR pixels, without overlap. All tiles are equal up to a pixel.
        overlap: LR pixels of context on each side, as far as the image reaches.

    Raises:
        ValueError: size below 1 or overlap below 0.
    """

    height: int
    width: int
    scale: int
    size: int = TILE
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.size < 1 or self.overlap < 0:
            raise ValueError(f"tiles need size >= 1 and overlap >= 0; got {self.size} and {self.overlap}")

    @property
    def rows(self) -> list[Span]:
        """The tiles' places from top to bottom."""
        return self._spans(self.height)

    @property
    def columns(self) -> list[Span]:
        """The tiles' places from left to right."""
        return self._spans(self.width)

    @property
    def pixels(self) -> int:
        """LR pixels that go through the network, overlaps included."""
        return math.prod(sum(span.high - span.low for span in spans) for spans in (self.rows, self.columns))

    def _spans(self, length: int) -> list[Span]:
        count = max(1, math.ceil(length / self.size))
        cuts = [round(number * length / count) for number in range(count + 1)]
        half = min([self.overlap // 2, *((end - start) // 2 for start, end in pairwise(cuts))])
        result = []
        for start, end in pairwise(cuts):
            before, after = (half if start > 0 else 0), (half if end < length else 0)
            low, high = max(0, start - self.overlap), min(length, end + self.overlap)
            result.append(Span(low, high, start - before, end + after, 2 * before, 2 * after))
        return result


def in_tiles(run: Callable[[Tensor], Tensor], lq: Tensor, tiling: Tiling) -> Tensor:
    """Super-resolve lq, (b, channels, h, w), tile by tile; return (b, channels, scale*h, scale*w).

    The tiling is for an image of lq's size. Each result of run, of floats, is changed in place.
    """
    blocks = blended(lambda tile: run(lq[..., tile[0] : tile[1], tile[2] : tile[3]]), tiling)
    return assembled(blocks, tiling.scale * tiling.height, tiling.scale * tiling.width)


def assembled(blocks: Iterable[tuple[int, int, Tensor]], height: int, width: int) -> Tensor:
    """Put blocks into one result, (b, channels, height, width); a block of that size is the result itself.

    Each comes with its first row and column in the result: (row, column, (b, channels, rows, columns)).

    Raises:
        ValueError: no blocks.
    """
    result: Tensor | None = None
    for row, column, block in blocks:
        if block.shape[2:] == (height, width):
            return block
        if result is None:
            result = block.new_empty((*block.shape[:2], height, width))
        result[..., row : row + block.shape[2], column : column + block.shape[3]] = block
    if result is None:
        raise ValueError(f"wanted an image of at least one pixel; got a result of {height} x {width}")
    return result


def blended(run: Callable[[Region], Tensor], tiling: Tiling) -> Iterator[tuple[int, int, Tensor]]:
    """Super-resolve tile by tile, in rows, with blended borders.

    Args:
        run: a region of the image -> its result, (b, channels, scale*h, scale*w) in floats; changed in place.
        tiling: the tiles.

    Yields:
        Row and column in the result, and the finished block (b, channels, rows, columns) that begins there. The blocks
        cover the result once.
    """
    scale, columns = tiling.scale, tiling.columns
    left = above = below = torch.empty(0)  # what the tiles to the left and above add to the borders
    for row in tiling.rows:
        for column in columns:
            tile = run((row.low, row.high, column.low, column.high))
            rows = slice(scale * (row.first - row.low), scale * (row.last - row.low))
            block = tile[..., rows, scale * (column.first - column.low) : scale * (column.last - column.low)]
            _fade(block, row, scale, dim=2)
            _fade(block, column, scale, dim=3)
            if column.fade_in:
                block[..., : left.shape[3]] += left
            left, block = _cut(block, scale * column.fade_out, dim=3)
            at = scale * column.first
            if row.fade_in:
                block[:, :, : above.shape[2]] += above[..., at : at + block.shape[3]]
            rest, block = _cut(block, scale * row.fade_out, dim=2)
            if column is columns[0]:
                below = rest.new_empty((*rest.shape[:3], scale * tiling.width))
            below[..., at : at + rest.shape[3]] = rest
            yield scale * row.first, at, block
        above = below


def _fade(block: Tensor, span: Span, scale: int, dim: int) -> None:
    """Weight both borders: from 0 to 1 and from 1 to 0, at pixel centres."""
    for length, rises in ((scale * span.fade_in, True), (scale * span.fade_out, False)):
        ramp = (torch.arange(length, dtype=block.dtype, device=block.device) + 0.5) / length
        ramp = ramp.view((-1, 1) if dim == 2 else -1)
        block.narrow(dim, 0 if rises else block.shape[dim] - length, length).mul_(ramp if rises else 1 - ramp)


def _cut(block: Tensor, length: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return a copy of the last `length` rows or columns, and the part before them."""
    keep = block.shape[dim] - length
    return block.narrow(dim, keep, length).clone(), block.narrow(dim, 0, keep)
