"""Find the part of an image with the most detail."""

import numpy as np


def most_detailed_window(image: np.ndarray, size: int) -> tuple[int, int]:
    """Find the size x size window with the largest sum of absolute steps between neighbouring pixels.

    Args:
        image: (h, w, channels), of any type and range.
        size: side of the window, at most min(h, w).

    Returns:
        Top and left edge of the window; the first such window when several are equal.
    """
    grey = image.astype(np.float64).mean(axis=-1)
    detail = np.zeros_like(grey)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    total = np.pad(detail, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)
