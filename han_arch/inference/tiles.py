"""Overlapping tiles that fade into each other, given out block by block, so that no whole image of floats is held.

Each tile is computed with `overlap` LR pixels of context beyond its own share. Half of them are thrown away, because a
convolution's zero padding spoils them; over the other half, on both sides of a border, the weight passes linearly from
one tile to the other. HAN's attention is global over its input, so neighbouring tiles differ slightly: the fade hides
the step.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Region = tuple[int, int, int, int]  # top, bottom, left, right, in LR pixels


@dataclass(frozen=True)
class Span:
    """A tile's place along one side, in LR pixels.

    `low` to `high` goes into the network, `first` to `last` is used of its result; of this the first `fade_in` and the
    last `fade_out` pixels are shared with the neighbours.
    """

    low: int
    high: int
    first: int
    last: int
    fade_in: int
    fade_out: int


def spans(length: int, size: int, overlap: int) -> list[Span]:
    """Tiles along one side, of equal shares up to a pixel.

    Args:
        length: LR pixels of the side.
        size: the largest share of a tile, without overlap.
        overlap: LR pixels that a tile sees beyond its share on each side, as far as the image goes.

    Raises:
        ValueError: size below 1 or overlap below 0.
    """
    if size < 1 or overlap < 0:
        raise ValueError(f"tiles need size >= 1 and overlap >= 0; got {size} and {overlap}")
    count = max(1, math.ceil(length / size))
    cuts = [round(number * length / count) for number in range(count + 1)]
    half = min([overlap // 2, *((end - start) // 2 for start, end in pairwise(cuts))])
    result = []
    for start, end in pairwise(cuts):
        before, after = (half if start > 0 else 0), (half if end < length else 0)
        low, high = max(0, start - overlap), min(length, end + overlap)
        result.append(Span(low, high, start - before, end + after, 2 * before, 2 * after))
    return result


def feathered(
    run: Callable[[Region], Tensor], height: int, width: int, scale: int, size: int, overlap: int
) -> Iterator[tuple[int, int, Tensor]]:
    """Super-resolve tile by tile, in rows, with fading borders.

    Args:
        run: a region of the image -> its result, (1, channels, scale*h, scale*w) in floats; changed in place.
        height: LR pixels of the image.
        width: LR pixels of the image.
        scale: run's scale.
        size: LR pixels of a tile's share, see `spans`.
        overlap: see `spans`.

    Yields:
        Row and column in the result, and the finished block (channels, rows, columns) that begins there. The blocks
        cover the result once.
    """
    columns = spans(width, size, overlap)
    above: Tensor | None = None  # (channels, rows of the fade, scale*width): the upper tiles' part of the border
    for row in spans(height, size, overlap):
        below: Tensor | None = None
        left: Tensor | None = None
        for column in columns:
            tile = run((row.low, row.high, column.low, column.high))[0]
            block = _used(tile, row, column, scale)
            _fade(block, row, scale, dim=1)
            _fade(block, column, scale, dim=2)
            if left is not None:
                block[:, :, : left.shape[2]] += left
            left, block = _cut(block, scale * column.fade_out, dim=2)
            at = scale * column.first
            if row.fade_in and above is not None:
                block[:, : above.shape[1]] += above[:, :, at : at + block.shape[2]]
            rest, block = _cut(block, scale * row.fade_out, dim=1)
            if rest is not None:
                if below is None:
                    below = rest.new_empty((rest.shape[0], rest.shape[1], scale * width))
                below[:, :, at : at + rest.shape[2]] = rest
            yield scale * row.first, at, block
        above = below


def _used(tile: Tensor, row: Span, column: Span, scale: int) -> Tensor:
    return tile[
        :,
        scale * (row.first - row.low) : scale * (row.last - row.low),
        scale * (column.first - column.low) : scale * (column.last - column.low),
    ]


def _fade(block: Tensor, span: Span, scale: int, dim: int) -> None:
    shape = (-1, 1) if dim == 1 else (-1,)
    if span.fade_in:
        block.narrow(dim, 0, scale * span.fade_in).mul_(_ramp(scale * span.fade_in, block).view(shape))
    if span.fade_out:
        length = scale * span.fade_out
        block.narrow(dim, block.shape[dim] - length, length).mul_(1 - _ramp(length, block).view(shape))


def _ramp(length: int, like: Tensor) -> Tensor:
    """Rises from 0 to 1, at pixel centres."""
    return (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) / length


def _cut(block: Tensor, length: int, dim: int) -> tuple[Tensor | None, Tensor]:
    """The last `length` rows or columns, copied, and what stands before them."""
    if length == 0:
        return None, block
    keep = block.shape[dim] - length
    return block.narrow(dim, keep, length).clone(), block.narrow(dim, 0, keep)
