"""3x3 convolutions by Winograd's algorithm, in float32 on a CPU: half the multiplications, same output except rounding.

For four outputs in a column, a direct convolution needs 12 multiplications, and Winograd's F(4, 3) only 6. F(4, 3)
transforms d (six input rows) and g (three kernel rows), multiplies the results, and transforms the products back:

    y = A^T [(G g) . (B^T d)]

Each element of d and g is a complete row, so each of the six multiplications is a convolution along the width. The
rounding error is two to three times as large as in a direct convolution.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4, with A, B and G of
F(4x4, 3x3). Deviation: only the height is transformed. Transforming the width too would halve the multiplications
again, but the rounding error would be several times as large.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.forward_ad import unpack_dual
from torch.autograd.function import once_differentiable

from han_arch.speed.winograd.native import library

CHANNELS = 16  # the numbers of input and output channels must be multiples of this
LEAST_POSITIONS = 512  # smallest b * h * w; below it, a direct convolution is faster


class WinogradConv2d(nn.Conv2d):
    """A 3x3 convolution, made by `use_winograd`. It uses Winograd's algorithm where that is faster."""

    # Not `forward`: HAN's upsampling calls this method with its own weights. torch has no public method for this.
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if _is_faster(input, weight):
            return conv3x3(input, weight, bias)
        return super()._conv_forward(input, weight, bias)


def _is_faster(x: Tensor, weight: Tensor) -> bool:
    return (
        type(x) is Tensor  # a subclass, such as the tensor of a tracer, may hold no values
        and type(weight) in (Tensor, nn.Parameter)
        and _fits(x, weight)
        and x.shape[0] * x.shape[2] * x.shape[3] >= LEAST_POSITIONS
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and not _in_func_transform()
        and unpack_dual(x).tangent is None
        and unpack_dual(weight).tangent is None
    )


def _in_func_transform() -> bool:
    """Return whether a transform of torch.func is active. torch has no public function for this."""
    is_active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(is_active and is_active())


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute `F.conv2d(x, weight, bias, padding=1)` by Winograd's algorithm.

    Args:
        x: (b, c, h, w), float32, on the CPU; c must be a multiple of 16.
        weight: (o, c, 3, 3), float32; o must be a multiple of 16.
        bias: (o,), or None.

    Returns:
        The output, (b, o, h, w) in channels_last. It has no second derivative. The number of threads changes only the
        rounding of the weight's gradient.

    Raises:
        ValueError: x, weight or bias has a wrong shape, dtype or device.
        UserError: there is no working C compiler.
        MemoryError: there is not enough memory.
    """
    o = weight.shape[0]
    bias_fits = bias is None or (bias.shape == (o,) and bias.dtype == torch.float32 and bias.device.type == "cpu")
    if not _fits(x, weight) or not bias_fits:
        raise ValueError(
            "conv3x3 needs x (b, c, h, w), weight (o, c, 3, 3) and bias (o,), not empty, in float32 on the CPU; "
            f"c and o must be multiples of {CHANNELS}; got "
            + ", ".join(f"{tuple(t.shape)} {t.dtype} {t.device}" for t in (x, weight, bias) if t is not None)
        )
    return _WinogradConv.apply(x, weight, bias)


def _fits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dim() == weight.dim() == 4
        and x.numel() > 0
        and weight.shape[1:] == (x.shape[1], 3, 3)
        and weight.shape[0] % CHANNELS == weight.shape[1] % CHANNELS == 0
        and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight))
    )


class _WinogradConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = _in_channels_last(x)
        ctx.save_for_backward(x, weight)
        return _convolution(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = _in_channels_last(grad)
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            # The gradient of the input is a convolution of grad with the kernel rotated by 180 degrees.
            _convolution(grad, weight.flip(2, 3).transpose(0, 1), None) if need_x else None,
            _weight_gradient(x, grad) if need_weight else None,
            grad.sum((0, 2, 3)) if need_bias else None,
        )


def _in_channels_last(x: Tensor) -> Tensor:
    """Return x, stored in the order (b, h, w, c). torch's memory format channels_last is ambiguous if a size is 1."""
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    b, c, h, w = x.shape
    o, threads = weight.shape[0], torch.get_num_threads()
    u = x.new_empty(6, 3, c, o)
    library().winograd_transform_weight(weight.data_ptr(), *weight.stride(), u.data_ptr(), c, o, threads)
    out = torch.empty((b, o, h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    bias = None if bias is None else bias.contiguous()
    library().winograd_convolution(
        x.data_ptr(), u.data_ptr(), None if bias is None else bias.data_ptr(), out.data_ptr(), b, h, w, c, o, threads
    )
    return out


def _weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    b, c, h, w = x.shape
    o = grad.shape[1]
    out = x.new_empty(3, 3, c, o)
    library().winograd_weight_gradient(
        x.data_ptr(), grad.data_ptr(), out.data_ptr(), b, h, w, c, o, torch.get_num_threads()
    )
    return out.permute(3, 2, 0, 1)
