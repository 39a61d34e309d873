"""Compare an exported network with PyTorch, on pictures of three sizes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from han_arch.archs.han_arch import HAN

# (batch, height, width): odd sides, more than one image, upright and landscape; none is the traced size.
SIZES = ((1, 17, 23), (2, 21, 30), (1, 40, 11))
TOLERANCE = 0.01  # on 0..255; float32 rounding gives at most 1e-3, and an 8-bit image shows half a level

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Check:
    """The comparison at one size.

    Attributes:
        size: (batch, height, width) of the input.
        difference: the largest difference on 0..255; NaN when the outputs differ in shape or are not finite.
    """

    size: tuple[int, int, int]
    difference: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within TOLERANCE; NaN is not."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        batch, height, width = self.size
        return f"{batch} x {height} x {width}: largest difference {self.difference:.1e} of 255"


def picture(batch: int, channels: int, height: int, width: int) -> Tensor:
    """Return smooth shapes with some noise, the same at each call: (batch, channels, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(batch * 10_000 + height * 100 + width)
    coarse = torch.rand(batch, channels, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def check(net: HAN, run: Run, size: tuple[int, int, int]) -> Check:
    """Compare run with net, which is the float32 reference, on one picture of (batch, height, width)."""
    batch, height, width = size
    lq = picture(batch, net.conv_first.in_channels, height, width)
    with torch.no_grad():
        expected, got = net(lq), run(lq)
    if got.shape != expected.shape:
        return Check(size, float("nan"))
    return Check(size, float(255 * (got - expected).abs().max()))


def psnr(net: HAN, run: Run) -> float:
    """Return the PSNR, in dB, of run's output against net's on a 48 x 48 picture: the loss of a coarser precision."""
    lq = picture(1, net.conv_first.in_channels, 48, 48)
    with torch.no_grad():
        error = (net(lq) - run(lq)).double().square().mean()
    return float(-10 * torch.log10(error))
