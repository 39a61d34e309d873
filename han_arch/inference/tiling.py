"""Tiles with overlap: bounded memory for any image, at the price of a changed result."""

from collections.abc import Callable

from torch import Tensor

TILE, OVERLAP = 96, 16  # LR pixels


def tile(run: Callable[[Tensor], Tensor], lq: Tensor, scale: int, size: int = TILE, overlap: int = OVERLAP) -> Tensor:
    """Super-resolve lq in tiles; of each, what lies beyond the tile proper only gives context and is thrown away.

    With an overlap of at least a convolutional network's reach the result is that of the whole image. HAN's attention
    is global over its input, so its result changes at any overlap.

    Args:
        run: (b, channels, h, w) -> (b, channels, scale*h, scale*w).
        lq: (b, channels, h, w).
        scale: run's scale.
        size: LR pixels of a tile's side without overlap.
        overlap: LR pixels that a tile sees beyond each of its sides, as far as the image goes.

    Returns:
        (b, channels, scale*h, scale*w).

    Raises:
        ValueError: size below 1 or overlap below 0.
    """
    if size < 1 or overlap < 0:
        raise ValueError(f"tile needs size >= 1 and overlap >= 0; got {size} and {overlap}")
    height, width = lq.shape[-2:]
    result: Tensor | None = None
    for top in range(0, height, size):
        for left in range(0, width, size):
            bottom, right = min(top + size, height), min(left + size, width)
            from_row, from_column = max(0, top - overlap), max(0, left - overlap)
            part = run(lq[..., from_row : bottom + overlap, from_column : right + overlap])
            if result is None:
                result = part.new_empty((*part.shape[:2], scale * height, scale * width))
            row, column = scale * (top - from_row), scale * (left - from_column)
            rows, columns = scale * (bottom - top), scale * (right - left)
            result[..., scale * top : scale * bottom, scale * left : scale * right] = part[
                ..., row : row + rows, column : column + columns
            ]
    return result  # type: ignore[return-value]
