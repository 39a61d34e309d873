"""Channel attention and the residual it gates, in one step: `out = x + scale * gate(y) * y`.

In bfloat16 a 3x3 convolution is so fast that each pass over a map counts, and autograd makes four more than needed: one
for the product's scale, one to add up the two gradients of y, and many small steps for the gate. The function below has
the same result and gradients, written out. Under `torch.compile` and `torch.export` the plain form runs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def global_average(x: Tensor) -> Tensor:
    """Mean over all positions, (b, c, h, w) -> (b, c)."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:
        # PyTorch's bfloat16 mean is up to five times as slow on CPU as its sum, which accumulates in float32 too.
        return x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    return x.mean((2, 3))


def gated_residual(
    x: Tensor, y: Tensor, squeeze: tuple[Tensor, Tensor], excite: tuple[Tensor, Tensor], scale: float
) -> Tensor:
    """`x + scale * gate * y` with `gate = sigmoid(W2 relu(W1 mean_hw(y) + b1) + b2)`.

    Args:
        x: (b, c, h, w), the skip.
        y: (b, c, h, w), the residual.
        squeeze: W1 (s, c) and b1 (s,).
        excite: W2 (c, s) and b2 (c,).
        scale: factor on the residual.

    Returns:
        (b, c, h, w). Can be differentiated once.
    """
    weights = [weight.to(y.dtype) for weight in (*squeeze, *excite)]
    if torch.compiler.is_compiling():
        _, _, gate = _gate(y, *weights)
        return x + y * (gate * scale)[:, :, None, None]
    with torch.autocast(y.device.type, enabled=False):
        return _GatedResidual.apply(x, y, *weights, scale)


def _gate(y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Average (b, c), hidden units (b, s) and gate (b, c)."""
    average = global_average(y)
    hidden = F.relu(F.linear(average, w1, b1))
    return average, hidden, torch.sigmoid(F.linear(hidden, w2, b2))


class _GatedResidual(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, scale: float) -> Tensor:
        average, hidden, gate = _gate(y, w1, b1, w2, b2)
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
        d_average = (d_hidden @ w1) / (y.shape[2] * y.shape[3])  # (b, c), for each position
        d_y = torch.addcmul(d_average[:, :, None, None], grad_y, (gate * ctx.scale)[:, :, None, None])
        return (grad, d_y, d_hidden.T @ average, d_hidden.sum(0), d_logit.T @ hidden, d_logit.sum(0), None)
