"""Local attribution maps: which input pixels a patch of the output depends on.

Source: Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps", CVPR 2021. The paper calls
such a map LAM. In this code, LAM always means HAN's layer attention.

D is the `detail` of an output patch: the sum of its gradient magnitudes. The path `blurred(lq, sigma * (1 - t))` leads
from the blurred input image (t = 0) to the input image itself (t = 1). The attribution of an input pixel i is the
integral of `dD/dlq_i` along this path. The map is the absolute value of the attribution, summed over the channels.

This code differs from the authors' code in two points. A step uses the gradient at the middle of the step, so that
the sum of the attributions is closer to D(image) - D(blurred image). The blur covers four sigma on each side.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from han_arch.errors import UserError

SIGMA = 1.2  # sigma of the strongest blur, in LR pixels; SIGMA and STEPS are the authors' values
STEPS = 50
_RADIUS = math.ceil(4 * SIGMA)
_SOFT = 1e-12  # added under the square root, because its slope at 0 is infinite


@dataclass(frozen=True)
class Patch:
    """A square in the output image: left edge x, top edge y and side `size`, in output pixels."""

    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Attribution:
    """The attribution map of one patch, with two numbers that describe it."""

    map: Tensor  # (h, w) of the LR image; the maximum is 1, or 0 if the patch does not depend on the image
    diffusion: float  # diffusion index 100 * (1 - Gini): near 0 for a single pixel, 100 for equal values
    total: float  # sum of the signed attributions, which is about D(image) - D(blurred image)


def attribute(
    run: Callable[[Tensor], Tensor],
    lq: Tensor,
    patch: Patch,
    steps: int = STEPS,
    progress: Callable[[range], Iterable[int]] = iter,
) -> Attribution:
    """Compute the attribution map of a patch.

    Args:
        run: function that runs the network: (1, channels, h, w) in [0, 1] -> (1, channels, scale*h, scale*w).
        lq: the input image of the network.
        steps: number of steps along the path. Each step runs the network forward and backward.
        progress: function that wraps the range of steps, such as `tqdm`.
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
    """Return the left and the top edge of the window to inspect, in pixels of the photo.

    Args:
        patch: the patch at the window's centre, in the output of the complete photo. None: use the photo's centre.
        photo: the photo, (1, channels, h, w).
        side: largest side of the window, in pixels of the photo.

    Raises:
        UserError: the patch is smaller than 2 pixels, not inside the output, or too large for the window.
    """
    height, width = photo.shape[2:]
    right, lower = scale * width, scale * height
    if patch is None:
        x, y = width // 2, height // 2
    elif patch.size < 2 or min(patch.x, patch.y, right - patch.x - patch.size, lower - patch.y - patch.size) < 0:
        raise UserError(
            f"--patch {patch.x} {patch.y} {patch.size} must be inside the output, which has {right} x {lower} pixels; "
            "SIZE must be at least 2"
        )
    elif patch.size > scale * (side - 2):
        raise UserError(
            f"--patch SIZE {patch.size} needs --window {patch.size // scale + 3} or more; got --window {side}"
        )
    else:
        x, y = ((2 * edge + patch.size) // (2 * scale) for edge in (patch.x, patch.y))
    return min(max(0, x - side // 2), max(0, width - side)), min(max(0, y - side // 2), max(0, height - side))


def detail(image: Tensor, patch: Patch) -> Tensor:
    """Return the sum of the gradient magnitudes (forward differences) over the patch and the channels."""
    part = image[:, :, patch.y : patch.y + patch.size, patch.x : patch.x + patch.size]
    down = part[:, :, 1:, :-1] - part[:, :, :-1, :-1]
    right = part[:, :, :-1, 1:] - part[:, :, :-1, :-1]
    return (down.square() + right.square() + _SOFT).sqrt().sum()


def diffusion_index(strength: Tensor) -> float:
    """Return `100 * (1 - G)`. G is the Gini coefficient of the values in a map; it is 0 if all values are equal."""
    values = strength.flatten().double().sort().values
    total, count = float(values.sum()), len(values)
    if total == 0:
        return 100.0
    ranks = torch.arange(1, count + 1, dtype=torch.float64)
    gini = float((2 * ranks - count - 1) @ values) / (count * total)
    return 100 * (1 - gini)


def blurred(lq: Tensor, sigma: float) -> Tensor:
    """Blur images (b, c, h, w) with a Gaussian. The borders are mirrored. For sigma 0, return a copy."""
    if sigma <= 0:
        return lq.clone()
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=lq.dtype)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(lq.shape[1], 1, 1, -1)  # (c, 1, 1, k)
    # Mirrored borders need sides longer than the radius. For smaller images, repeat the border pixels.
    mode = "reflect" if min(lq.shape[2:]) > _RADIUS else "replicate"
    padded = F.pad(lq, [_RADIUS] * 4, mode=mode)
    rows = F.conv2d(padded, taps, groups=lq.shape[1])
    return F.conv2d(rows, taps.transpose(2, 3), groups=lq.shape[1])
