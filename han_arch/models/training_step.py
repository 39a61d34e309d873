"""Parts of a training step: the optimizer and schedule from the option file, and the gradients of a batch."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer, lr_scheduler

from han_arch import errors
from han_arch.speed.precision import PRECISIONS


def _classes(module: Any, base: type, unusable: tuple[str, ...]) -> dict[str, Any]:
    """Return the subclasses of `base` in a module, keyed by name, without those in `unusable`."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and name not in unusable
    }


# Classes that an option file can select, keyed by class name. Plugins may add classes. The rest is missing, because its
# step needs a metric, a closure or special gradients, or because its arguments are functions or objects.
OPTIMIZERS = _classes(torch.optim, Optimizer, ("LBFGS", "Muon", "SparseAdam"))
SCHEDULERS = _classes(
    lr_scheduler,
    lr_scheduler.LRScheduler,
    ("_LRScheduler", "ChainedScheduler", "LambdaLR", "MultiplicativeLR", "ReduceLROnPlateau", "SequentialLR"),
) | {
    "MultiStepLR": MultiStepRestartLR,
    "MultiStepRestartLR": MultiStepRestartLR,
    "CosineAnnealingRestartLR": CosineAnnealingRestartLR,
}


def build(option: str, settings: Mapping[str, Any], target: Any) -> Any:
    """Build an optimizer or a learning-rate schedule.

    Args:
        option: "optim_g" or "scheduler".
        settings: the section `option` of the option file, with `type` (a class name) and the arguments of the class.
        target: for an optimizer, the parameters to train; for a schedule, the optimizer.

    Raises:
        UserError: the type is unknown, or an argument is wrong.
    """
    known = SCHEDULERS if option == "scheduler" else OPTIMIZERS
    options = dict(settings)
    kind = options.pop("type")
    if kind not in known:
        raise errors.unknown(f"train:{option}:type", kind, known)
    try:
        return known[kind](target, **options)
    except (TypeError, ValueError) as error:
        raise errors.UserError(f"the options in train:{option} do not fit {kind}: {error}") from error


@dataclass
class TrainingStep:
    """Forward pass, backward pass and optimizer step for one batch.

    Args:
        precision: number format of the forward pass: "fp32", "bf16" or "fp16". The weights stay float32. With fp16 the
            loss is scaled up, so that small gradients do not become 0.
        channels_last: convert batches to the memory format `torch.channels_last`. The caller must convert the network.
        accumulate: number of parts into which a batch is split to save memory. The gradients of the parts are added.
        grad_clip: maximum norm of all gradients together; None: no clipping.

    Raises:
        ValueError: an argument is out of range.
    """

    device: torch.device
    precision: str = "fp32"
    channels_last: bool = False
    accumulate: int = 1
    grad_clip: float | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise errors.unknown("precision", self.precision, PRECISIONS)
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1; got {self.accumulate}")
        if self.grad_clip is not None and self.grad_clip <= 0:
            raise ValueError(f"grad_clip must be above 0, or ~ for no clipping; got {self.grad_clip}")
        self.memory_format = torch.channels_last if self.channels_last else torch.contiguous_format
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def backward(
        self,
        net: nn.Module,
        optimizer: Optimizer,
        lq: Tensor,
        gt: Tensor,
        losses: Callable[[Tensor, Tensor], dict[str, Tensor]],
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Delete the old gradients, then compute and clip the gradients of a batch's mean loss.

        Args:
            net: the network; in distributed training, its DistributedDataParallel wrapper.
            lq: LR images (b, c, h, w).
            gt: ground truth (b, c, scale*h, scale*w).
            losses: function (output, ground truth) -> loss terms, keyed by name.

        Returns:
            The detached output (b, c, scale*h, scale*w), the loss terms (means over the batch), and the norm of all
            gradients before clipping.
        """
        optimizer.zero_grad(set_to_none=True)
        parts = list(zip(*(images.chunk(min(self.accumulate, len(lq))) for images in (lq, gt)), strict=True))
        precision = PRECISIONS[self.precision]
        outputs, sums = [], dict[str, Tensor]()
        for index, (lq_part, gt_part) in enumerate(parts):
            share = len(lq_part) / len(lq)
            # The processes exchange gradients once per batch, not once per part.
            waits = isinstance(net, DistributedDataParallel) and index < len(parts) - 1
            with net.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with torch.autocast(self.device.type, precision.dtype) if precision.autocast else nullcontext():
                    output = net(lq_part.contiguous(memory_format=self.memory_format))
                terms = losses(output.float(), gt_part)
                total = torch.stack(list(terms.values())).sum() * share
                self.scaler.scale(total).backward()
            outputs.append(output.detach().float())
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() * share
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.grad_clip or float("inf"))
        return torch.cat(outputs), sums, norm

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights. If fp16 gradients overflowed, skip the update and lower the loss scale instead."""
        self.scaler.step(optimizer)
        self.scaler.update()
