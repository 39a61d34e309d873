"""Local attribution maps: which input pixels a patch of the output depends on.

Source: Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021. Their abbreviation
LAM is not used here: it is HAN's layer attention. D is the detail in the output patch, the sum of its gradient
magnitudes. The path `path(t) = gaussian(sigma * (1 - t)) * lq` leads from the blurred image to the image itself. The
attribution of input pixel i is the path integral of `dD/dlq_i`, summed over channels in magnitude.
Deviations: each step takes the gradient at its middle, so that the sum comes closer to D(image) - D(blurred); the
blur's window is as wide as its sigma needs.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from han_arch.errors import UserError

SIGMA = 1.2  # of the strongest blur, in LR pixels; the authors' choice, like the number of steps
STEPS = 50
_RADIUS = math.ceil(4 * SIGMA)
_SOFT = 1e-12  # under the root of the gradient's magnitude, which has an infinite slope at 0


@dataclass(frozen=True)
class Patch:
    """A square of the output image: left edge x, top edge y and side, in output pixels."""

    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Attribution:
    """The attribution of one patch."""

    map: Tensor  # (h, w) over the LR image; the largest value is 1, or all are 0 when the patch depends on no pixel
    diffusion: float  # the diffusion index 100 * (1 - Gini), from 0 (one pixel) to 100 (all pixels alike)
    total: float  # the signed sum over the path, equal to D(image) - D(blurred) up to the error of the steps


def attribute(
    run: Callable[[Tensor], Tensor],
    lq: Tensor,
    patch: Patch,
    steps: int = STEPS,
    progress: Callable[[range], Iterable[int]] = lambda steps: steps,
) -> Attribution:
    """Compute the attribution map of a patch.

    Args:
        run: the network, (1, channels, h, w) in [0, 1] to (1, channels, scale*h, scale*w).
        lq: the image.
        patch: it must lie inside the output.
        steps: of the path; each runs the network forward and backward.
        progress: wraps the steps, as `tqdm` does.
    """
    summed = torch.zeros_like(lq)
    for step in progress(range(steps)):
        middle = blurred(lq, SIGMA * (1 - (step + 0.5) / steps)).requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(detail(run(middle), patch), middle)
        ahead, behind = SIGMA * (1 - (step + 1) / steps), SIGMA * (1 - step / steps)
        summed += gradient * (blurred(lq, ahead) - blurred(lq, behind))
    strength = summed.abs().sum(dim=1)[0]
    return Attribution(strength / strength.max().clamp_min(1e-30), diffusion_index(strength), float(summed.sum()))


def window_around(patch: Patch | None, photo: Tensor, side: int, scale: int) -> tuple[int, int]:
    """Return the left and top edge of a window of at most side x side LR pixels, around a patch or the centre.

    Args:
        patch: a square of the whole output; None for the centre.
        photo: (1, channels, h, w).
        side: the window's side.
        scale: of the network.

    Raises:
        UserError: the patch lies outside the output, or is too large for the window.
    """
    height, width = photo.shape[2:]
    right, lower = scale * width, scale * height
    if patch is None:
        x, y = width // 2, height // 2
    elif patch.size < 2 or min(patch.x, patch.y, right - patch.x - patch.size, lower - patch.y - patch.size) < 0:
        raise UserError(
            f"--patch {patch.x} {patch.y} {patch.size} must lie inside the output of {right} x {lower} pixels, "
            "with SIZE at least 2"
        )
    elif patch.size > scale * (side - 2):
        raise UserError(f"--patch SIZE {patch.size} needs --window {patch.size // scale + 3} or more; got {side}")
    else:
        x, y = ((2 * edge + patch.size) // (2 * scale) for edge in (patch.x, patch.y))
    return min(max(0, x - side // 2), max(0, width - side)), min(max(0, y - side // 2), max(0, height - side))


def detail(image: Tensor, patch: Patch) -> Tensor:
    """Sum the gradient's magnitude, by forward differences, over the patch and its channels."""
    part = image[:, :, patch.y : patch.y + patch.size, patch.x : patch.x + patch.size]
    down = part[:, :, 1:, :-1] - part[:, :, :-1, :-1]
    right = part[:, :, :-1, 1:] - part[:, :, :-1, :-1]
    return (down.square() + right.square() + _SOFT).sqrt().sum()


def diffusion_index(strength: Tensor) -> float:
    """Return `100 * (1 - Gini)` of the map's values; 100 when all are alike, and for a map of zeros."""
    values = strength.flatten().double().sort().values
    total, count = float(values.sum()), len(values)
    if total == 0:
        return 100.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    gini = float((2 * ranks - count - 1) @ values) / (count * total)
    return 100 * (1 - gini)


def blurred(lq: Tensor, sigma: float) -> Tensor:
    """Blur (b, c, h, w) by a Gaussian, with mirrored borders; sigma 0 returns a copy."""
    if sigma <= 0:
        return lq.clone()
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=lq.dtype)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(lq.shape[1], 1, 1, -1)  # (c, 1, 1, k)
    # Mirroring needs sides longer than the radius; smaller images repeat their edges.
    mode = "reflect" if min(lq.shape[2:]) > _RADIUS else "replicate"
    padded = F.pad(lq, [_RADIUS] * 4, mode=mode)
    rows = F.conv2d(padded, taps, groups=lq.shape[1])
    return F.conv2d(rows, taps.transpose(2, 3), groups=lq.shape[1])
