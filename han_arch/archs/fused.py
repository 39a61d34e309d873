"""Fast forms of four steps of HAN. Outputs and gradients are the same as in the plain forms, except for rounding.

    step                   plain form                         fast form
    end of an RCAB         x + scale * gate(y) * y            gated_residual: one function with its own gradient
    inner products in LAM  stack @ stack^T                    layer_correlation: copies the maps in small parts
    LAM and conv_lam       conv(cat_i(sum_j M_ij feats_j))    conv_of_mixture: folds M into the weights of conv
    upsampling             PixelShuffle(conv(x))              upsample: moves whole pixels, not single values

This file contains the plain forms of the first two steps. The plain forms of the last two are in han_arch.py.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SLICE_NUMBERS = 2**20  # values in a slice of all maps: 4 MB in float32, which fit in the processor's cache


def enabled() -> bool:
    """Return whether the fast forms run. Under `torch.compile` and `torch.export`, the plain forms run instead.

    These two tools cannot trace a function that defines its own gradient, and they optimize the plain forms themselves.
    """
    return not torch.compiler.is_compiling()


def _without_autocast(tensor: Tensor) -> AbstractContextManager[Any]:
    kind = tensor.device.type
    # The device meta has no autocast.
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


# The channel gate. In bfloat16 a 3x3 convolution is so fast that each extra pass over a map costs noticeable time.
# Autograd would make four more passes, for example one to scale the product and one to add the two gradients of y.


def gated_residual(x: Tensor, y: Tensor, weights: tuple[Tensor, ...], scale: float) -> Tensor:
    """Compute `x + scale * gate * y` with `gate = sigmoid(W2 relu(W1 mean_hw(y) + b1) + b2)`.

    x and y are (b, c, h, w). `weights` contains W1 (s, c), b1 (s,), W2 (c, s) and b2 (c,). The fast form has no second
    derivative.
    """
    weights = tuple(weight.to(y.dtype) for weight in weights)
    if enabled():
        with _without_autocast(y):
            return _GatedResidual.apply(x, y, scale, *weights)
    return x + y * (_gate(y, *weights)[-1] * scale)[:, :, None, None]


def _gate(y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the channel averages (b, c), the hidden units (b, s) and the gates (b, c)."""
    if y.device.type == "cpu" and y.dtype == torch.bfloat16:
        # On a CPU in bfloat16, PyTorch's mean takes up to five times as long as its sum.
        average = y.sum((2, 3)) / (y.shape[2] * y.shape[3])
    else:
        average = y.mean((2, 3))
    hidden = F.relu(F.linear(average, w1, b1))
    return average, hidden, torch.sigmoid(F.linear(hidden, w2, b2))


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, scale: float, *weights: Tensor) -> Tensor:
        average, hidden, gate = _gate(y, *weights)
        w1, _, w2, _ = weights
        ctx.save_for_backward(y, w1, w2, average, hidden, gate)
        ctx.scale = scale
        return torch.addcmul(x, y, (gate * scale)[:, :, None, None])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        y, w1, w2, average, hidden, gate = ctx.saved_tensors
        grad_y = grad.to(y.dtype)
        d_logit = (grad_y * y).sum((2, 3)) * ctx.scale * gate * (1 - gate)  # (b, c)
        d_hidden = (d_logit @ w2) * (hidden > 0)  # (b, s)
        d_average = (d_hidden @ w1) / (y.shape[2] * y.shape[3])  # (b, c), the same value at all positions
        d_y = torch.addcmul(d_average[:, :, None, None], grad_y, (gate * ctx.scale)[:, :, None, None])
        return (grad, d_y, None, d_hidden.T @ average, d_hidden.sum(0), d_logit.T @ hidden, d_logit.sum(0))


# Layer attention. The 11 maps of a 384 x 384 image with 64 channels take 415 MB. The plain forms of the next two
# functions build three more tensors of this size, and autograd keeps two of them.


def layer_correlation(feats: list[Tensor]) -> Tensor:
    """Return the inner products `E_ij = <feats_i, feats_j>` of n maps, as (b, n, n). Each map is (b, c, h, w).

    E is float64 for float64 maps, else float32, even under autocast. With img_range 255, the products exceed 1e10 and
    would overflow in float16. If `enabled()`, the function cannot be differentiated twice.
    """
    with _without_autocast(feats[0]):
        if enabled():
            return _LayerCorrelation.apply(*feats)
        dtype = torch.promote_types(feats[0].dtype, torch.float32)
        stack = torch.stack(feats, dim=1).to(dtype).flatten(2)  # (b, n, c*h*w)
        return stack @ stack.transpose(1, 2)  # (b, n, k) @ (b, k, n) -> (b, n, n)


def conv_of_mixture(conv: nn.Conv2d, mixing: Tensor | None, feats: list[Tensor]) -> Tensor:
    """Compute `conv(cat_i(sum_j M_ij feats_j))` without storing the mixture of the maps. Output: (b, c_out, h, w).

    Mixing and convolution are linear, so M is folded into the weights: `sum_j conv(sum_i M_ij W_i, feats_j)`.

    Args:
        conv: 3x3 convolution with padding 1. Its n*c input channels have the order of feats.
        mixing: M, one matrix per image, (b, n, n). None means the identity matrix.
        feats: n feature maps, each (b, c, h, w).
    """
    by_layer = conv.weight.unflatten(1, (len(feats), -1))  # (c_out, n, c, 3, 3)
    if mixing is None:
        return _sum_of_convs(by_layer.unbind(1), conv.bias, feats)
    with _without_autocast(by_layer):
        mixed = torch.einsum("bij,oicyx->bjocyx", mixing, by_layer.to(mixing.dtype)).to(feats[0].dtype)
    bias = None if conv.bias is None else conv.bias.to(feats[0].dtype)
    images = zip(*(feat.split(1) for feat in feats), strict=True)  # for each image, n maps (1, c, h, w)
    results = [_sum_of_convs(weights.unbind(), bias, maps) for weights, maps in zip(mixed, images, strict=True)]
    return results[0] if len(results) == 1 else torch.cat(results)


def _sum_of_convs(weights: Sequence[Tensor], bias: Tensor | None, feats: Sequence[Tensor]) -> Tensor:
    total = F.conv2d(feats[0], weights[0], bias, padding=1)
    for weight, feat in zip(weights[1:], feats[1:], strict=True):
        total += F.conv2d(feat, weight, padding=1)
    return total


class _LayerCorrelation(torch.autograd.Function):
    """The inner products of all pairs of feature maps, E_ij = <feats_i, feats_j>, summed over small parts of the maps.

    If G is the gradient of the loss with respect to E, feats_i has the gradient `sum_j (G_ij + G_ji) feats_j`.
    """

    @staticmethod
    def forward(ctx: Any, *feats: Tensor) -> Tensor:
        ctx.save_for_backward(*feats)
        dtype = torch.promote_types(feats[0].dtype, torch.float32)
        energy = feats[0].new_zeros((feats[0].shape[0], len(feats), len(feats)), dtype=dtype)
        rows = _as_rows(feats)
        for part in _slices(rows):
            stack = torch.stack([row[:, part] for row in rows], dim=1).to(energy.dtype)  # (b, n, slice)
            energy.baddbmm_(stack, stack.transpose(1, 2))
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats = ctx.saved_tensors
        # If LAM's softmax saturates, the gradient is exactly 0 and there is nothing to compute. On a GPU this check
        # would wait for the device, so it runs on the CPU only.
        if grad.device.type == "cpu" and not grad.any():
            return (None,) * len(feats)
        grads = tuple(torch.empty_like(feat, memory_format=_common_format(feats)) for feat in feats)
        rows, grad_rows = _as_rows(feats), _as_rows(grads)
        symmetric = grad + grad.transpose(1, 2)
        with _without_autocast(grad):
            for part in _slices(rows):
                stack = torch.stack([row[:, part] for row in rows], dim=1).to(grad.dtype)
                for grad_row, values in zip(grad_rows, (symmetric @ stack).unbind(1), strict=True):
                    grad_row[:, part] = values
        return grads


def _common_format(feats: tuple[Tensor, ...]) -> torch.memory_format:
    channels_last = all(feat.is_contiguous(memory_format=torch.channels_last) for feat in feats)
    return torch.channels_last if channels_last else torch.contiguous_format


def _as_rows(feats: tuple[Tensor, ...]) -> list[Tensor]:
    """Flatten each map to (b, c*h*w), all in the same order. If they share a memory format, no map is copied."""
    if _common_format(feats) == torch.channels_last:
        return [feat.permute(0, 2, 3, 1).flatten(1) for feat in feats]
    return [feat.flatten(1) for feat in feats]


def _slices(rows: list[Tensor]) -> list[slice]:
    num_image, length = rows[0].shape
    step = max(1, SLICE_NUMBERS // (num_image * len(rows)))
    return [slice(start, start + step) for start in range(0, length, step)]


# Upsampling. channels_last stores the channels of a pixel next to each other. PixelShuffle reads channels in the order
# c*r*r, so it has to move single values. With channels in the order r*r*c, the code moves whole pixels.


def upsample(stages: nn.Sequential, x: Tensor) -> Tensor:
    """Apply all stages of an `Upsample` to a map (b, c, h, w). A stage is `conv3x3(c, r*r*c)`, then `PixelShuffle(r)`.

    The result is (b, c, scale*h, scale*w) in torch's memory format channels_last.
    """
    layers: list[Any] = list(stages)
    for conv, shuffle in zip(layers[::2], layers[1::2], strict=True):
        r = shuffle.upscale_factor
        weight = conv.weight.unflatten(0, (-1, r * r)).transpose(0, 1).flatten(0, 1)  # c*r*r outputs -> r*r*c outputs
        bias = None if conv.bias is None else conv.bias.unflatten(0, (-1, r * r)).T.flatten()
        # torch has no public function for this step. `functional_call` replaces the layer's weights for a moment, which
        # is not thread-safe. F.conv2d ignores layers with their own `_conv_forward`, such as WinogradConv2d.
        x = conv._conv_forward(x, weight, bias)
        b, _, h, w = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(b, h, w, r, r, -1).transpose(2, 3)  # (b, h, r, w, r, c)
        x = pixels.reshape(b, r * h, r * w, -1).permute(0, 3, 1, 2)
    return x
