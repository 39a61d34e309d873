"""Compute HAN's tail (upsampling and conv_last) in horizontal strips. This saves memory, and the pixels stay the same.

The tail's feature maps have up to scale^2 times as many pixels as the LR image. The tail has only convolutions, so each
output row depends on only a few LR rows. HAN's global attention comes before the tail.
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
    """Compute `net(lq)` for inference. The tail is computed in strips to save memory.

    lq contains LR images, (b, channels, h, w), with values in [0, 1]. A strip has at most strip_pixels LR pixels,
    counted over all images of the batch. The output, (b, channels, scale*h, scale*w), equals `net(lq)` up to rounding.

    Raises:
        ValueError: strip_pixels is below 1.
    """
    strips = each_strip(net, net.features(lq), strip_pixels)
    return assembled(((row, 0, strip) for row, strip in strips), *(net.upscale * side for side in lq.shape[2:]))


def each_strip(net: HAN, feat: Tensor, strip_pixels: int = STRIP_PIXELS) -> Iterator[tuple[int, Tensor]]:
    """Compute `net.tail(feat)` in strips and yield them from top to bottom, one at a time.

    feat is the result of `net.features`, (b, c, h, w). A strip has at most strip_pixels LR pixels, counted over all
    images of the batch. The function yields pairs (row, strip). The strip is a part of the output, (b, channels, rows,
    scale*w). The row is the index of the strip's first row in the output.

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
    """Return the number of LR rows per strip of an image of height x width LR pixels. The last strip can be smaller."""
    count = max(1, min(height, math.ceil(height * width / strip_pixels)))
    return max(1, math.ceil(height / count))
