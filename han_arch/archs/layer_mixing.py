"""Arithmetic over the n layers' maps without a second copy of them: inner products, and mixing before a convolution.

The n maps of a 384 x 384 input at 64 channels take 415 MB; stacking them, mixing the stack and convolving the mixture
would take that three more times, and autograd would keep two of these. What is done instead is exact:

- the inner products are accumulated over slices of the maps, with a gradient that works on slices too;
- a convolution that follows a mixture is linear in both, so the mixing goes into its weights:
  `conv(W, mix(feats)) = sum_j conv(sum_i M_ij W_i, feats_j)`.

Under `torch.compile` and `torch.export` the plain forms run instead, since the compiler does its own fusing.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_SLICE_NUMBERS = 2**20  # numbers copied at a time, over all layers: 4 MB of float32 stay in the processor's cache


def layer_correlation(feats: list[Tensor]) -> Tensor:
    """Inner products of the layers: `E_ij = <feats_i, feats_j>`, summed over channels and positions.

    At img_range 255 the values reach 1e10 and more, beyond float16, so they are accumulated in float32 at least, under
    autocast too.

    Args:
        feats: n maps (b, c, h, w).

    Returns:
        (b, n, n), float64 for float64 maps, else float32. Can be differentiated once.
    """
    with torch.autocast(feats[0].device.type, enabled=False):
        if torch.compiler.is_compiling():
            stack = torch.stack(feats, dim=1).to(_wide(feats[0])).flatten(2)  # (b, n, c*h*w)
            return stack @ stack.transpose(1, 2)  # (b, n, k) @ (b, k, n) -> (b, n, n)
        return _LayerCorrelation.apply(*feats)


def conv_of_mixture(weight: Tensor, bias: Tensor | None, mixing: Tensor | None, feats: list[Tensor]) -> Tensor:
    """3x3 convolution of mixed layers: of `cat_i(sum_j mixing_ij feats_j)`, (b, n*c, h, w), which is never built.

    Args:
        weight: (c_out, n*c, 3, 3), over the layers in the order of feats.
        bias: (c_out,) or None.
        mixing: (b, n, n), of each image; None is the identity.
        feats: n maps (b, c, h, w).

    Returns:
        (b, c_out, h, w). Padding 1, as in the network's other convolutions.
    """
    if torch.compiler.is_compiling():
        return F.conv2d(_mixed_stack(mixing, feats), weight, bias, padding=1)
    by_layer = weight.unflatten(1, (len(feats), -1))  # (c_out, n, c, 3, 3)
    if mixing is None:
        return _sum_of_convs(list(by_layer.unbind(1)), bias, feats)
    with torch.autocast(weight.device.type, enabled=False):
        mixed = torch.einsum("bij,oicyx->bjocyx", mixing, by_layer.to(mixing.dtype)).to(feats[0].dtype)
    bias = None if bias is None else bias.to(feats[0].dtype)
    images = zip(*(feat.split(1) for feat in feats), strict=True)  # per image: n maps (1, c, h, w)
    results = [
        _sum_of_convs(list(weights.unbind()), bias, list(maps)) for weights, maps in zip(mixed, images, strict=True)
    ]
    return results[0] if len(results) == 1 else torch.cat(results)


def _sum_of_convs(weights: list[Tensor], bias: Tensor | None, feats: list[Tensor]) -> Tensor:
    total = F.conv2d(feats[0], weights[0], bias, padding=1)
    for weight, feat in zip(weights[1:], feats[1:], strict=True):
        total += F.conv2d(feat, weight, padding=1)
    return total


def _mixed_stack(mixing: Tensor | None, feats: list[Tensor]) -> Tensor:
    """The plain form: cat_i(sum_j mixing_ij feats_j), (b, n*c, h, w)."""
    if mixing is None:
        return torch.cat(feats, dim=1)
    stack = torch.stack(feats, dim=1)  # (b, n, c, h, w)
    return (mixing.to(stack.dtype) @ stack.flatten(2)).view_as(stack).flatten(1, 2)  # (b, n, n) @ (b, n, c*h*w)


def _wide(feat: Tensor) -> torch.dtype:
    return torch.promote_types(feat.dtype, torch.float32)


class _LayerCorrelation(torch.autograd.Function):
    """E from slices of the maps; its gradient is `dE/df_i -> sum_j (G_ij + G_ji) f_j`, from slices as well."""

    @staticmethod
    def forward(ctx: Any, *feats: Tensor) -> Tensor:
        ctx.save_for_backward(*feats)
        num_image, num_layer = feats[0].shape[0], len(feats)
        energy = feats[0].new_zeros((num_image, num_layer, num_layer), dtype=_wide(feats[0]))
        rows = _as_rows(feats)
        for part in _slices(rows):
            stack = torch.stack([row[:, part] for row in rows], dim=1).to(energy.dtype)  # (b, n, slice)
            energy.baddbmm_(stack, stack.transpose(1, 2))
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats = ctx.saved_tensors
        # LAM's first two forms saturate their softmax, whose gradient then is exactly 0: nothing to multiply by or to
        # add to the maps' gradients. A GPU would have to wait for the answer, so it is not asked.
        if grad.device.type == "cpu" and not grad.any():
            return (None,) * len(feats)
        format = _common_format(feats)
        grads = tuple(torch.empty_like(feat, memory_format=format) for feat in feats)
        rows, grad_rows = _as_rows(feats), _as_rows(grads)
        symmetric = grad + grad.transpose(1, 2)
        with torch.autocast(grad.device.type, enabled=False):
            for part in _slices(rows):
                stack = torch.stack([row[:, part] for row in rows], dim=1).to(grad.dtype)
                for grad_row, values in zip(grad_rows, (symmetric @ stack).unbind(1), strict=True):
                    grad_row[:, part] = values
        return grads


def _common_format(feats: tuple[Tensor, ...]) -> torch.memory_format:
    channels_last = all(feat.is_contiguous(memory_format=torch.channels_last) for feat in feats)
    return torch.channels_last if channels_last else torch.contiguous_format


def _as_rows(feats: tuple[Tensor, ...]) -> list[Tensor]:
    """Each map as (b, c*h*w), all in the same order; views where the maps agree in memory format."""
    if _common_format(feats) == torch.channels_last:
        return [feat.permute(0, 2, 3, 1).flatten(1) for feat in feats]
    return [feat.flatten(1) for feat in feats]


def _slices(rows: list[Tensor]) -> list[slice]:
    num_image, length = rows[0].shape
    step = max(1, _SLICE_NUMBERS // (num_image * len(rows)))
    return [slice(start, start + step) for start in range(0, length, step)]
