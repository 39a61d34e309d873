"""HAN's tail in horizontal strips: the same pixels with a fraction of the memory.

HAN computes everything global at LR size. Its tail is convolutions only, on maps of up to scale^2 times that size.
Each strip is computed with as many rows beyond its edges as the convolutions reach.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.inference.tiles import assembled

STRIP_PIXELS = 32_768  # LR pixels in a strip; at x4 and 64 channels the largest map takes 128 MB
# LR rows that the tail reaches: each stage's convolution reaches one row of its own size, 1 + 1/2 + 1/4 + ... < 2.
HALO = 2


def super_resolve(net: HAN, lq: Tensor, strip_pixels: int = STRIP_PIXELS) -> Tensor:
    """Compute `net(lq)` with the tail in strips; for inference.

    Args:
        net: the network.
        lq: (b, channels, h, w) in [0, 1].
        strip_pixels: LR pixels, over the batch, that go through the tail at a time.

    Returns:
        (b, channels, scale*h, scale*w), not clamped; equal to `net(lq)` up to rounding.

    Raises:
        ValueError: strip_pixels below 1.
    """
    strips = each_strip(net, net.features(lq), strip_pixels)
    return assembled(((row, 0, strip) for row, strip in strips), *(net.upscale * side for side in lq.shape[2:]))


def each_strip(net: HAN, feat: Tensor, strip_pixels: int = STRIP_PIXELS) -> Iterator[tuple[int, Tensor]]:
    """Yield the strips of `net.tail(feat)` from the top; the caller need not hold more than one.

    feat is (b, c, h, w), from `net.features`; strip_pixels as for `super_resolve`.

    Yields:
        The strip's first row in the result, and the strip, (b, channels, rows, scale*w).

    Raises:
        ValueError: strip_pixels below 1.
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
    """Return the LR rows of each strip; only the last may have fewer."""
    count = max(1, min(height, math.ceil(height * width / strip_pixels)))
    return max(1, math.ceil(height / count))
