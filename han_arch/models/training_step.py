"""How a batch becomes an optimizer step: precision, memory format, parts of a batch, clipping."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

AUTOCAST_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Losses = Callable[[Tensor, Tensor], dict[str, Tensor]]


class TrainingStep:
    """The forward and backward pass of one batch.

    Args:
        precision: "fp32", "bf16" or "fp16"; the weights stay float32, fp16 scales its gradients.
        channels_last: batches (and the network, by `prepare`) in channels_last memory format.
        accumulate: the batch goes through in that many parts, whose gradients add up to the whole batch's.
        grad_clip: bound on the norm of all gradients; None: unbounded.
        device: where the network is.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self,
        device: torch.device,
        precision: str = "fp32",
        channels_last: bool = False,
        accumulate: int = 1,
        grad_clip: float | None = None,
    ) -> None:
        if precision not in AUTOCAST_DTYPES:
            raise ValueError(f"precision must be one of {', '.join(AUTOCAST_DTYPES)}; got {precision!r}")
        if accumulate < 1:
            raise ValueError(f"accumulate must be at least 1; got {accumulate}")
        if grad_clip is not None and grad_clip <= 0:
            raise ValueError(f"grad_clip must be above 0, or ~ for none; got {grad_clip}")
        self.device = device
        self.dtype = AUTOCAST_DTYPES[precision]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.accumulate = accumulate
        self.grad_clip = grad_clip
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def prepare(self, net: nn.Module) -> nn.Module:
        """The network in the step's memory format."""
        return net.to(memory_format=self.memory_format)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of the forward pass."""
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def backward(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, lq: Tensor, gt: Tensor, losses: Losses
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Gradients of the mean loss of a batch, clipped, ready for `step`.

        Args:
            net: the network, perhaps wrapped for several processes.
            optimizer: whose gradients are set anew.
            lq: (b, c, h, w).
            gt: (b, c, scale*h, scale*w).
            losses: output and gt -> the terms of the loss by name.

        Returns:
            output (b, c, scale*h, scale*w) detached, the terms (means over the batch), and the norm of all gradients
            before clipping.
        """
        optimizer.zero_grad(set_to_none=True)
        parts = min(self.accumulate, len(lq))
        outputs, sums = [], dict[str, Tensor]()
        for index, (lq_part, gt_part) in enumerate(zip(lq.chunk(parts), gt.chunk(parts), strict=True)):
            share = len(lq_part) / len(lq)
            last = index == parts - 1
            # Ranks exchange gradients once a batch, not once a part.
            waits = isinstance(net, DistributedDataParallel) and not last
            with net.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with self.autocast():
                    output = net(lq_part.contiguous(memory_format=self.memory_format))
                terms = losses(output.float(), gt_part)
                total = torch.stack(list(terms.values())).sum() * share
                self.scaler.scale(total).backward()
            outputs.append(output.detach().float())
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() * share
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.grad_clip if self.grad_clip else float("inf"))
        return torch.cat(outputs), sums, norm

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Move the weights; fp16 leaves out steps whose gradients overflowed and scales less."""
        self.scaler.step(optimizer)
        self.scaler.update()
