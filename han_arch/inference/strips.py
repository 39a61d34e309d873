"""HAN's tail in horizontal strips: the same pixels with a fraction of the memory.

The features at LR size hold everything that is global; the tail behind them is convolutions, but works on maps of up to
scale^2 times their size. Each strip is computed with as many rows beyond its edges as the convolutions reach.
"""

import math

from torch import Tensor

from han_arch.archs.han_arch import HAN

STRIP_PIXELS = 32_768  # LR pixels in a strip: at x4 and 64 channels the largest map takes 128 MB
# LR rows that the tail reaches: one by each stage's convolution at its own size, 1 + 1/2 + 1/4 + ... < 2 in all.
HALO = 2


def super_resolve(net: HAN, lq: Tensor, strip_pixels: int = STRIP_PIXELS) -> Tensor:
    """`net(lq)` with the tail in strips; for inference.

    Args:
        net: the network.
        lq: (b, channels, h, w) in [0, 1].
        strip_pixels: LR pixels, over the batch, that go through the tail at a time.

    Returns:
        (b, channels, scale*h, scale*w), not clamped; equal to `net(lq)` up to rounding.
    """
    return tail_in_strips(net, net.features(lq), strip_pixels)


def tail_in_strips(net: HAN, feat: Tensor, strip_pixels: int = STRIP_PIXELS) -> Tensor:
    """`net.tail(feat)`, strip by strip: (b, c, h, w) -> (b, channels, scale*h, scale*w).

    Raises:
        ValueError: strip_pixels below 1.
    """
    if strip_pixels < 1:
        raise ValueError(f"strip_pixels must be at least 1; got {strip_pixels}")
    images, _, height, width = feat.shape
    scale = net.upscale
    count = min(height, math.ceil(images * height * width / strip_pixels))
    if count <= 1:
        return net.tail(feat)
    rows = math.ceil(height / count)
    result = feat.new_empty((images, net.conv_last.out_channels, scale * height, scale * width))
    for start in range(0, height, rows):
        end = min(start + rows, height)
        top, bottom = max(0, start - HALO), min(height, end + HALO)
        strip = net.tail(feat[:, :, top:bottom])
        result[:, :, scale * start : scale * end] = strip[:, :, scale * (start - top) : scale * (end - top)]
    return result
