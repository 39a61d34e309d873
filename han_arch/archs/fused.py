"""Fast forms of four steps of HAN. Outputs and gradients are the same as in the plain forms, except for rounding.

    step                   plain form                         fast form
    end of an RCAB         x + scale * gate(y) * y            gated_residual: one function with its own gradient
    inner products in LAM  stack @ stack^T                    layer_correlation: reads the maps slice by slice
    LAM and conv_lam       conv(cat_i(sum_j M_ij feats_j))    conv_of_mixture: folds M into the weights of conv
    upsampling             PixelShuffle(conv(x))              upsample: moves whole pixels, not single values

If `enabled()` returns False, the plain form runs. This file has the plain form of the first two steps, han_arch.py the
plain form of the last two.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

SLICE_NUMBERS = 2**20  # values in a slice of all layers; as float32 they take 4 MB and fit in the processor's cache


def enabled() -> bool:
    """Return whether the fast forms run. They always run, except under `torch.compile` and `torch.export`.

    These two optimize the plain forms themselves, and they cannot trace a function with its own gradient.
    """
    return not torch.compiler.is_compiling()


# The channel gate. In bfloat16 a 3x3 convolution is so fast that each extra pass over a map is noticeable.
# Autograd would make four more passes, for example one to scale the product and one to add the two gradients of y.


def gated_residual(x: Tensor, y: Tensor, weights: tuple[Tensor, ...], scale: float) -> Tensor:
    """Compute `x + scale * gate * y` with `gate = sigmoid(W2 relu(W1 mean_hw(y) + b1) + b2)`.

    Args:
        x: input of the block, which the skip connection adds, (b, c, h, w).
        y: residual of the block, (b, c, h, w).
        weights: the tensors W1 (s, c), b1 (s,), W2 (c, s), b2 (c,).
        scale: factor that multiplies the residual.

    Returns:
        The sum, (b, c, h, w). The fast form has no second derivative.
    """
    weights = tuple(weight.to(y.dtype) for weight in weights)
    if enabled():
        with torch.autocast(y.device.type, enabled=False):
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
# functions build three more tensors of that size, and autograd keeps two of them.


def layer_correlation(feats: list[Tensor]) -> Tensor:
    """Return the inner products of all pairs of maps, `E_ij = <feats_i, feats_j>` over channels and positions.

    At img_range 255 the products exceed 1e10, which is too large for float16. So they are accumulated in float32 or
    float64, even under autocast.

    Args:
        feats: n feature maps, each (b, c, h, w).

    Returns:
        E, (b, n, n), in float64 for float64 maps, else in float32. The fast form has no second derivative.
    """
    with torch.autocast(feats[0].device.type, enabled=False):
        if enabled():
            return _LayerCorrelation.apply(*feats)
        stack = torch.stack(feats, dim=1).to(_accumulation_dtype(feats[0])).flatten(2)  # (b, n, c*h*w)
        return stack @ stack.transpose(1, 2)  # (b, n, k) @ (b, k, n) -> (b, n, n)


def conv_of_mixture(conv: nn.Conv2d, mixing: Tensor | None, feats: list[Tensor]) -> Tensor:
    """Convolve a mixture of layers, `conv(cat_i(sum_j mixing_ij feats_j))`, without storing the mixture.

    Mixing and convolution are linear, so the matrix is folded into the weights: `sum_j conv(sum_i mixing_ij W_i,
    feats_j)`.

    Args:
        conv: a 3x3 convolution with padding 1 and n*c input channels, in the order of feats.
        mixing: one n x n matrix per image, (b, n, n). None means the identity.
        feats: n feature maps, each (b, c, h, w).

    Returns:
        The output of conv, (b, c_out, h, w).
    """
    by_layer = conv.weight.unflatten(1, (len(feats), -1))  # (c_out, n, c, 3, 3)
    if mixing is None:
        return _sum_of_convs(by_layer.unbind(1), conv.bias, feats)
    with torch.autocast(by_layer.device.type, enabled=False):
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
    """Compute E slice by slice, and the maps' gradients `df_i = sum_j (G_ij + G_ji) f_j` from the gradient G of E."""

    @staticmethod
    def forward(ctx: Any, *feats: Tensor) -> Tensor:
        ctx.save_for_backward(*feats)
        energy = feats[0].new_zeros((feats[0].shape[0], len(feats), len(feats)), dtype=_accumulation_dtype(feats[0]))
        rows = _as_rows(feats)
        for part in _slices(rows):
            stack = torch.stack([row[:, part] for row in rows], dim=1).to(energy.dtype)  # (b, n, slice)
            energy.baddbmm_(stack, stack.transpose(1, 2))
        return energy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feats = ctx.saved_tensors
        # The softmax of the forms "released" and "paper" saturates. Its gradient is then exactly 0, so the work
        # can be skipped. On a GPU this check would wait for the device, so it runs on the CPU only.
        if grad.device.type == "cpu" and not grad.any():
            return (None,) * len(feats)
        grads = tuple(torch.empty_like(feat, memory_format=_common_format(feats)) for feat in feats)
        rows, grad_rows = _as_rows(feats), _as_rows(grads)
        symmetric = grad + grad.transpose(1, 2)
        with torch.autocast(grad.device.type, enabled=False):
            for part in _slices(rows):
                stack = torch.stack([row[:, part] for row in rows], dim=1).to(grad.dtype)
                for grad_row, values in zip(grad_rows, (symmetric @ stack).unbind(1), strict=True):
                    grad_row[:, part] = values
        return grads


def _accumulation_dtype(feat: Tensor) -> torch.dtype:
    return torch.promote_types(feat.dtype, torch.float32)


def _common_format(feats: tuple[Tensor, ...]) -> torch.memory_format:
    channels_last = all(feat.is_contiguous(memory_format=torch.channels_last) for feat in feats)
    return torch.channels_last if channels_last else torch.contiguous_format


def _as_rows(feats: tuple[Tensor, ...]) -> list[Tensor]:
    """Flatten each map to (b, c*h*w), all in the same order; do not copy if all maps have the same memory format."""
    if _common_format(feats) == torch.channels_last:
        return [feat.permute(0, 2, 3, 1).flatten(1) for feat in feats]
    return [feat.flatten(1) for feat in feats]


def _slices(rows: list[Tensor]) -> list[slice]:
    num_image, length = rows[0].shape
    step = max(1, SLICE_NUMBERS // (num_image * len(rows)))
    return [slice(start, start + step) for start in range(0, length, step)]


# Upsampling. channels_last stores the channels of a pixel next to each other. PixelShuffle reads channels in the order
# c*r*r, so it has to move single values. If the channels are in the order r*r*c, the code can move whole pixels.


def upsample(stages: nn.Sequential, x: Tensor) -> Tensor:
    """Apply all stages of an `Upsample` to a map in channels_last.

    Args:
        stages: the layers of the `Upsample`: `conv3x3(c, r*r*c), PixelShuffle(r)`, once or several times.
        x: feature map, (b, c, h, w).

    Returns:
        The upsampled map, (b, c, scale*h, scale*w), in channels_last.
    """
    layers: list[Any] = list(stages)
    for conv, shuffle in zip(layers[::2], layers[1::2], strict=True):
        x = _shuffle_pixels(_conv_in_pixel_order(x, conv), shuffle.upscale_factor)
    return x


def _conv_in_pixel_order(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Apply conv, but return its output channels in the order r*r*c; the stored weights have the order c*r*r."""
    factor_squared = conv.out_channels // conv.in_channels
    weight = conv.weight.unflatten(0, (-1, factor_squared)).transpose(0, 1).flatten(0, 1)
    bias = None if conv.bias is None else conv.bias.unflatten(0, (-1, factor_squared)).T.flatten()
    # `_conv_forward` is private in torch, but no public function fits. `functional_call` replaces the layer's weights
    # for a moment, which is not thread-safe. F.conv2d ignores subclasses with their own method, such as WinogradConv2d.
    return conv._conv_forward(x, weight, bias)


def _shuffle_pixels(x: Tensor, factor: int) -> Tensor:
    """Reorder (b, r*r*c, h, w) -> (b, c, r*h, r*w), both in channels_last."""
    b, _, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(b, h, w, factor, factor, -1).transpose(2, 3)  # (b, h, r, w, r, c)
    return pixels.reshape(b, factor * h, factor * w, -1).permute(0, 3, 1, 2)
