"""The authors' `chop`: four overlapping quadrants, again and again while they are large, stitched without blending.

HAN is global over its input, so this changes the result; the published numbers were made with it.
Source: the HAN authors' code, `forward_chop`, which they took from EDSR's.
"""

from collections.abc import Callable

from torch import Tensor

OVERLAP = 10  # LR pixels that a quadrant reaches beyond its half
MAX_PIXELS = 160_000  # quadrants of as many LR pixels or more are split again


def chop(
    run: Callable[[Tensor], Tensor], lq: Tensor, scale: int, overlap: int = OVERLAP, max_pixels: int = MAX_PIXELS
) -> Tensor:
    """Super-resolve lq in quadrants, always at least four.

    Args:
        run: (b, channels, h, w) -> (b, channels, scale*h, scale*w).
        lq: (b, channels, h, w).
        scale: run's scale.
        overlap: LR pixels that each quadrant reaches beyond its half of the image.
        max_pixels: a quadrant with as many LR pixels or more is itself chopped.

    Returns:
        (b, channels, scale*h, scale*w).

    Raises:
        ValueError: overlap below 0, max_pixels too small for quadrants to get below it, or an empty lq.
    """
    if overlap < 0 or max_pixels <= (2 * overlap + 2) ** 2:
        raise ValueError(
            f"chop needs overlap >= 0 and max_pixels > (2 * overlap + 2)^2; got {overlap} and {max_pixels}"
        )
    height, width = lq.shape[-2:]
    rows, columns = _halves(height, overlap), _halves(width, overlap)
    result: Tensor | None = None
    for top, bottom, row_from, row_to in rows:
        for left, right, column_from, column_to in columns:
            quadrant = lq[..., top:bottom, left:right]
            large = quadrant.shape[-2] * quadrant.shape[-1] >= max_pixels
            part = chop(run, quadrant, scale, overlap, max_pixels) if large else run(quadrant)
            if result is None:
                result = part.new_empty((*part.shape[:2], scale * height, scale * width))
            result[..., scale * row_from : scale * row_to, scale * column_from : scale * column_to] = part[
                ...,
                scale * (row_from - top) : scale * (row_to - top),
                scale * (column_from - left) : scale * (column_to - left),
            ]
    if result is None:
        raise ValueError(f"chop needs an image; got lq {tuple(lq.shape)}")
    return result


def _halves(length: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Of the parts along one side: where the part begins and ends, and which of it is kept; two, of one pixel one."""
    half = length // 2
    size = min(length, half + overlap)
    parts = [(0, size, 0, half), (length - max(size, length - half), length, half, length)]
    return [part for part in parts if part[2] < part[3]]
