"""The learning rate of a run that goes on with changed options."""

import warnings
from copy import deepcopy
from typing import Any

KEYS = ("optim_g", "optim_d", "scheduler")

Groups = list[list[dict[str, Any]]]


def group_options(optimizers: list[Any]) -> Groups:
    """What the optimizers' groups have besides parameters: lr, betas and so on."""
    return [
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        for optimizer in optimizers
    ]


def changed(before: Any, now: dict[str, Any]) -> bool:
    """Whether optimizer or schedule are not those of a training state.

    Args:
        before: the state's options; None where it has none, as BasicSR's own.
        now: the run's options.
    """
    if not isinstance(before, dict):
        return False
    old, new = before["train"], now["train"]
    return any(old.get(key) != new.get(key) for key in KEYS)


def start_anew(model: Any, groups: Groups, done: int) -> None:
    """Give the optimizers the options' values, and the schedulers the place that they would have by now.

    A loaded state would silently keep the old rate and schedule, and BasicSR's cosine schedule would end in an error
    after the old periods.

    Args:
        model: a BasicSR model with `options`, its options as given.
        groups: of `group_options` before the state was loaded.
        done: iterations.
    """
    for optimizer, fresh in zip(model.optimizers, groups, strict=True):
        for group, values in zip(optimizer.param_groups, fresh, strict=True):
            group.update(values)
    model.opt["train"]["scheduler"] = deepcopy(model.options["train"]["scheduler"])  # BasicSR has taken entries out
    model.schedulers = []
    model.setup_schedulers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about steps of schedulers before the optimizer's
        for _ in range(done - 1):
            for scheduler in model.schedulers:
                scheduler.step()
