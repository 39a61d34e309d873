"""MATLAB's `imresize(image, scale, 'bicubic')` on 8-bit images, to the bit."""

import math

import numpy as np
from scipy import sparse

BORDERS = ("symmetric", "replicate")


def imresize(image: np.ndarray, scale: float, border: str = "symmetric") -> np.ndarray:
    """Resize by bicubic interpolation with MATLAB's arithmetic; antialias when shrinking.

    `out = round(W_w round(W_h image))`: all rows first, then all columns, in double precision. Each of the two passes
    rounds half up to 0..255. Most other implementations lack the rounding between the passes.

    Args:
        image: uint8, (h, w) or (h, w, c), any number of channels in any order.
        scale: factor of both sides; 1/4 shrinks to a quarter, 2 doubles.
        border: the pixels outside the image: "symmetric" (mirrored, the edge pixel repeated; today's MATLAB) or
            "replicate" (the edge pixel only; the files released with RCAN and SelfExSR).

    Returns:
        uint8, (ceil(scale * h), ceil(scale * w)) and the channels of `image`.

    Raises:
        TypeError: the image is not uint8.
        ValueError: not two or three dimensions, an empty image, a scale that is not a positive finite number, an
            unknown border.

    Source: MATLAB's documented algorithm (kernel of Keys 1981, a = -0.5; kernel widened by 1/scale when shrinking).
    Deviation: at 1/3 the weights are no binary fractions, and one of 160 sums lies on a half to within rounding errors.
    The result then follows from adding in index order; no MATLAB output was available to compare it with.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"image must be uint8; got {image.dtype}")
    if image.ndim not in (2, 3) or image.size == 0:
        raise ValueError(f"image must be (h, w) or (h, w, c) and not empty; got {image.shape}")
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive finite number; got {scale}")
    if border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(BORDERS)}; got {border!r}")
    rows_done = _resize_rows(image, scale, border)
    columns_first = np.ascontiguousarray(rows_done.swapaxes(0, 1))
    return np.ascontiguousarray(_resize_rows(columns_first, scale, border).swapaxes(0, 1))


def cubic(distance: np.ndarray) -> np.ndarray:
    """Return Keys' cubic kernel with a = -0.5 at distances in pixels; zero beyond 2."""
    x = np.abs(distance)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def resize_weights(length: int, scale: float, border: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weights and the indices of the input samples for every output sample along a side of n = `length`.

    Both are (ceil(scale * n), k). Each row of weights has sum 1. The indices are in 0..n-1; near the border, an index
    may occur twice in a row.
    """
    shrink = min(scale, 1.0)
    width = 4 / shrink
    position = np.arange(1, math.ceil(scale * length) + 1, dtype=np.float64)
    center = position / scale + 0.5 * (1 - 1 / scale)  # in input samples, the first one at 1
    taps = np.floor(center - width / 2)[:, None] + np.arange(math.ceil(width) + 2)
    weights = shrink * cubic(shrink * (center[:, None] - taps))
    weights /= weights.sum(axis=1, keepdims=True)
    used = (weights != 0).any(axis=0)
    indices = taps[:, used].astype(np.int64) - 1
    if border == "replicate":
        return weights[:, used], indices.clip(0, length - 1)
    indices %= 2 * length
    return weights[:, used], np.minimum(indices, 2 * length - 1 - indices)


def _resize_rows(image: np.ndarray, scale: float, border: str) -> np.ndarray:
    weights, indices = resize_weights(image.shape[0], scale, border)
    row_starts = np.arange(0, weights.size + 1, weights.shape[1])
    # A product with a CSR matrix adds in index order, as MATLAB does, and skips the zeros of a dense matrix.
    matrix = sparse.csr_matrix((weights.ravel(), indices.ravel(), row_starts), (len(weights), image.shape[0]))
    resized = matrix @ image.reshape(image.shape[0], -1).astype(np.float64)
    resized += 0.5
    np.clip(resized, 0, 255, out=resized)  # the cast truncates: floor(x + 0.5) rounds half up
    return resized.astype(np.uint8).reshape(len(weights), *image.shape[1:])
