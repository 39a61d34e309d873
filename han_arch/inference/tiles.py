"""Super-resolve an image in overlapping tiles, and blend the borders of the tiles.

The network gets each tile with a margin of `overlap` LR pixels on every side. In the output, the outer half of the
margin is cut off, because zero padding changes its pixels. In the inner half, neighbouring tiles are blended with
linear weights, because HAN's attention gives the same pixel slightly different values in each tile.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# Default sizes in LR pixels. docs/upscale.md has measurements for several sizes and overlaps.
TILE = 96  # side of a tile without overlap, in validation and leaderboards; when upscaling, `plan.choose` selects it
OVERLAP = 32
SMALLEST_TILE = 32  # smallest side of a tile that `choose` returns

Region = tuple[int, int, int, int]  # top, bottom, left, right, in LR pixels


@dataclass(frozen=True)
class Span:
    """The position of a tile along one axis of the image, in LR pixels.

    The network gets the pixels from `low` to `high`. In the output, the pixels from `first` to `last` are used. The
    first `fade_in` and the last `fade_out` of these pixels are blended with the neighbouring tiles.
    """

    low: int
    high: int
    first: int
    last: int
    fade_in: int
    fade_out: int


@dataclass(frozen=True)
class Tiling:
    """The division of an image of height x width LR pixels into tiles.

    Without its overlap, a tile has at most `size` LR pixels per side. The sides of tiles differ by at most one pixel. A
    tile also reads `overlap` LR pixels on each side, but not beyond the borders of the image.

    Raises:
        ValueError: size is below 1 or overlap is below 0.
    """

    height: int
    width: int
    scale: int
    size: int = TILE
    overlap: int = OVERLAP

    def __post_init__(self) -> None:
        if self.size < 1 or self.overlap < 0:
            raise ValueError(f"tiles need size >= 1 and overlap >= 0; got size {self.size} and overlap {self.overlap}")

    @property
    def rows(self) -> list[Span]:
        """The vertical positions of the tiles, from top to bottom."""
        return self._spans(self.height)

    @property
    def columns(self) -> list[Span]:
        """The horizontal positions of the tiles, from left to right."""
        return self._spans(self.width)

    @property
    def pixels(self) -> int:
        """Number of LR pixels in all tiles, overlaps included."""
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
    """Super-resolve images tile by tile. lq is (b, channels, h, w); the output is (b, channels, scale*h, scale*w).

    run is a function that applies the network. It must return a float tensor, which in_tiles changes in place. The
    tiling must have the height and width of lq.
    """
    blocks = blended(lambda tile: run(lq[..., tile[0] : tile[1], tile[2] : tile[3]]), tiling)
    return assembled(blocks, tiling.scale * tiling.height, tiling.scale * tiling.width)


def assembled(blocks: Iterable[tuple[int, int, Tensor]], height: int, width: int) -> Tensor:
    """Copy blocks into one output, (b, channels, height, width). A block of this full size is returned without a copy.

    blocks contains tuples (row, column, block). Row and column are the position of the block's top left pixel.

    Raises:
        ValueError: there are no blocks.
    """
    result: Tensor | None = None
    for row, column, block in blocks:
        if block.shape[2:] == (height, width):
            return block
        if result is None:
            result = block.new_empty((*block.shape[:2], height, width))
        result[..., row : row + block.shape[2], column : column + block.shape[3]] = block
    if result is None:
        raise ValueError(f"the output would have {width}x{height} pixels; use an image with at least one pixel")
    return result


def blended(run: Callable[[Region], Tensor], tiling: Tiling) -> Iterator[tuple[int, int, Tensor]]:
    """Super-resolve an image tile by tile, row by row, and blend the borders of the tiles.

    run super-resolves one region of the image, of h x w LR pixels. It must return a float tensor, (b, channels,
    scale*h, scale*w), which this function changes in place. The function yields tuples (row, column, block). The block
    is a finished part of the output, (b, channels, rows, columns). Row and column are the position of the block's top
    left pixel in the output. The blocks cover the output without overlap.
    """
    scale, columns = tiling.scale, tiling.columns
    left = above = below = torch.empty(0)  # weighted border pixels of the tiles to the left and above
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
    """Multiply the borders of a block by linear weights, which rise at the start of dim and fall at its end."""
    for length, rises in ((scale * span.fade_in, True), (scale * span.fade_out, False)):
        ramp = (torch.arange(length, dtype=block.dtype, device=block.device) + 0.5) / length
        ramp = ramp.view((-1, 1) if dim == 2 else -1)
        block.narrow(dim, 0 if rises else block.shape[dim] - length, length).mul_(ramp if rises else 1 - ramp)


def _cut(block: Tensor, length: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return two parts of a block: a copy of its last `length` rows or columns along dim, and a view of the rest."""
    keep = block.shape[dim] - length
    return block.narrow(dim, keep, length).clone(), block.narrow(dim, 0, keep)
