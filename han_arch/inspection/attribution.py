"""Local attribution maps: which input pixels a patch of the output depends on.

Source: Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021, whose abbreviation
LAM is not used here, since it is HAN's layer attention. With D the detail in the output patch (the sum of its gradient
magnitudes) and a path of blurred inputs `path(t) = gaussian(sigma * (1 - t)) * lq` from the blurred image to the image
itself, the attribution of input pixel i is the path integral of `dD/dlq_i`, summed over channels in magnitude.
Deviations: each step's gradient is taken at its middle (the sum then comes closer to D(image) - D(blurred)), and the
blur's window is as wide as its sigma needs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIGMA = 1.2  # of the strongest blur, in LR pixels; the authors' choice, as are the steps
STEPS = 50
_RADIUS = math.ceil(4 * SIGMA)
_SOFT = 1e-12  # under the root of the gradient's magnitude, whose own slope at 0 is infinite

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Patch:
    """A square of the output image: left edge x, top edge y and side, in output pixels."""

    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Attribution:
    """`map` (h, w) of the LR image, largest value 1 (all 0 when the patch depends on nothing).

    `diffusion` is the diffusion index 100 * (1 - Gini), from 0 (one pixel) to 100 (all alike); `total` the signed sum
    over the path, which equals D(image) - D(blurred) up to the steps' length.
    """

    map: Tensor
    diffusion: float
    total: float


def attribute(
    run: Run, lq: Tensor, patch: Patch, steps: int = STEPS, tick: Callable[[], object] = lambda: None
) -> Attribution:
    """The attribution map of a patch.

    Args:
        run: the network, (1, channels, h, w) in [0, 1] to (1, channels, scale*h, scale*w).
        lq: the image.
        patch: of the output; it must lie within it.
        steps: of the path, each one run forward and back.
        tick: called after each step.
    """
    summed = torch.zeros_like(lq)
    for step in range(steps):
        middle = blurred(lq, SIGMA * (1 - (step + 0.5) / steps)).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(detail(run(middle), patch), middle)
        ahead, behind = SIGMA * (1 - (step + 1) / steps), SIGMA * (1 - step / steps)
        summed += gradient * (blurred(lq, ahead) - blurred(lq, behind))
        tick()
    strength = summed.abs().sum(dim=1)[0]
    return Attribution(strength / strength.max().clamp_min(1e-30), diffusion_index(strength), float(summed.sum()))


def detail(image: Tensor, patch: Patch) -> Tensor:
    """Sum over the patch, and its channels, of the gradient's magnitude by forward differences."""
    part = image[:, :, patch.y : patch.y + patch.size, patch.x : patch.x + patch.size]
    down = part[:, :, 1:, :-1] - part[:, :, :-1, :-1]
    right = part[:, :, :-1, 1:] - part[:, :, :-1, :-1]
    return (down.square() + right.square() + _SOFT).sqrt().sum()


def diffusion_index(strength: Tensor) -> float:
    """`100 * (1 - Gini)` of the map's values; 100 when all are alike, and for a map of zeros."""
    values = strength.flatten().double().sort().values
    total, count = float(values.sum()), len(values)
    if total == 0:
        return 100.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    gini = float((2 * ranks - count - 1) @ values) / (count * total)
    return 100 * (1 - gini)


def blurred(lq: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, (b, c, h, w) -> the same, the border mirrored; sigma 0 leaves it as it is."""
    if sigma <= 0:
        return lq.clone()
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=lq.dtype)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(lq.shape[1], 1, 1, -1)  # (c, 1, 1, k)
    # Mirroring needs a side longer than the radius; a smaller image repeats its edge.
    mode = "reflect" if min(lq.shape[2:]) > _RADIUS else "replicate"
    padded = F.pad(lq, [_RADIUS] * 4, mode=mode)
    rows = F.conv2d(padded, taps, groups=lq.shape[1])
    return F.conv2d(rows, taps.transpose(2, 3), groups=lq.shape[1])
