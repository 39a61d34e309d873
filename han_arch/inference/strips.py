"""Compute HAN's tail (upsampling and conv_last) in horizontal strips: the same pixels, a fraction of the memory.

HAN's global attention is computed before the tail, at LR size. The tail has only convolutions, on maps with up to
scale^2 times as many pixels. For each strip, the tail also reads as many rows above and below it as the convolutions
reach.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.inference.tiles import assembled

STRIP_PIXELS = 32_768  # LR pixels per strip; at x4 and 64 channels, a strip's largest feature map takes 128 MB
# LR rows that the tail reads above and below a strip. The convolution of each upsampling stage reads one row of its own
# resolution; in LR rows, the sum is 1 + 1/2 + 1/4 + ... < 2.
HALO = 2


def super_resolve(net: HAN, lq: Tensor, strip_pixels: int = STRIP_PIXELS) -> Tensor:
    """Compute `net(lq)` for inference, with the tail in strips to save memory.

    Args:
        net: the network.
        lq: (b, channels, h, w) in [0, 1].
        strip_pixels: largest number of LR pixels in a strip, summed over the batch.

    Returns:
        The output, (b, channels, scale*h, scale*w), not clamped; equal to `net(lq)` up to rounding.

    Raises:
        ValueError: strip_pixels is below 1.
    """
    strips = each_strip(net, net.features(lq), strip_pixels)
    return assembled(((row, 0, strip) for row, strip in strips), *(net.upscale * side for side in lq.shape[2:]))


def each_strip(net: HAN, feat: Tensor, strip_pixels: int = STRIP_PIXELS) -> Iterator[tuple[int, Tensor]]:
    """Compute `net.tail(feat)` in strips and yield them from top to bottom, one at a time.

    Args:
        net: the network.
        feat: features from `net.features`, (b, c, h, w).
        strip_pixels: largest number of LR pixels in a strip, summed over the batch.

    Yields:
        (row, strip): a strip of the output, (b, channels, rows, scale*w), and the number of its first row.

    Raises:
        ValueError: strip_pixels is below 1.
    """
    if strip_pixels < 1:
        raise ValueError(f"strip_pixels must be at least 1; got {strip_pixels}")
    images, _, height, width = feat.shape
    scale = net.upscale
    rows = strip_rows(height, width * images, strip_pixels)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        top, bottom = max(0, start - HALO), min(height, end + HALO)
        strip = net.tail(feat[:, :, top:bottom])
        yield scale * start, strip[:, :, scale * (start - top) : scale * (end - top)]


def strip_rows(height: int, width: int, strip_pixels: int) -> int:
    """Return the number of LR rows per strip; only the last strip may have fewer."""
    count = max(1, min(height, math.ceil(height * width / strip_pixels)))
    return max(1, math.ceil(height / count))
