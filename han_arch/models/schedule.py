"""Optimizers and learning-rate schedules by name, and the learning rate of a run that resumes with changed options."""

import warnings
from typing import Any

import torch
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR
from torch.optim import Optimizer, lr_scheduler

from han_arch import errors

KEYS = ("optim_g", "optim_d", "scheduler")

Groups = list[list[dict[str, Any]]]


def _classes(module: Any, base: type, unusable: tuple[str, ...]) -> dict[str, Any]:
    """Return the public subclasses of base in a module by name, without the unusable ones."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base and name not in unusable
    }


# Name in an option file -> class. Unusable are those whose step needs more than gradients, or whose arguments are no
# plain values. A plugin may add its own.
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


def build(option: str, kind: str, *arguments: Any, **options: Any) -> Any:
    """Build an optimizer or a learning-rate schedule.

    Args:
        option: where the option file names it, `optim_g` or `scheduler`.
        kind: its name.
        arguments: the parameters, or the optimizer.
        options: its other options.

    Raises:
        UserError: an unknown name or wrong options.
    """
    known = SCHEDULERS if option == "scheduler" else OPTIMIZERS
    if kind not in known:
        raise errors.unknown(f"train:{option}:type", kind, known)
    try:
        return known[kind](*arguments, **options)
    except (TypeError, ValueError) as error:
        raise errors.UserError(f"train:{option} does not fit {kind}: {error}") from error


def group_options(optimizers: list[Optimizer]) -> Groups:
    """Return what each parameter group of the optimizers has besides parameters: lr, betas and so on."""
    return [
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        for optimizer in optimizers
    ]


def is_changed(before: Any, now: dict[str, Any]) -> bool:
    """Return whether the options of optimizer or schedule differ from those of a training state.

    Args:
        before: the state's options; None where it has none, as BasicSR's own states.
        now: the run's options.
    """
    if not isinstance(before, dict):
        return False
    return any(before["train"].get(key) != now["train"].get(key) for key in KEYS)


def restart(model: Any, groups: Groups, done: int) -> None:
    """Give the optimizers the options' values, and move new schedulers to the current iteration.

    A loaded state would silently keep the old rate and schedule. BasicSR's cosine schedule would end in an error after
    the old periods.

    Args:
        model: a BasicSR model.
        groups: result of `group_options` before the state was loaded.
        done: iterations of the state.
    """
    for optimizer, fresh in zip(model.optimizers, groups, strict=True):
        for group, values in zip(optimizer.param_groups, fresh, strict=True):
            group.update(values)
    model.setup_schedulers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about scheduler steps before the first optimizer step
        for _ in range(done - 1):
            for scheduler in model.schedulers:
                scheduler.step()
