"""Check that a training state fits the options of a run, before the run builds or writes anything."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from han_arch.models.training_step import build


def find_misfit(opt: dict[str, Any], state: Mapping[str, Any], weights: Any, net: nn.Module) -> str | None:
    """Return why a model of the type HANModel cannot resume from a training state; None if it can.

    Args:
        opt: options of the run.
        state: the training state. If BasicSR's SRModel wrote it, it contains no options.
        weights: weights of the checkpoint of the same iteration, keyed by name; None if the run ignores them.
        net: the network of the options, on any device. Only the shapes of its weights matter.
    """
    return next(_misfits(opt, state, weights, net), None)


def _misfits(opt: dict[str, Any], state: Mapping[str, Any], weights: Any, net: nn.Module) -> Iterator[str]:
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    if weights is not None and opt["path"].get("strict_load_g", True):
        found = {name: tuple(value.shape) for name, value in weights.items() if isinstance(value, Tensor)}
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                is_here, was_there = (_shape(shapes.get(name)) for shapes in (wanted, found))
                yield (
                    f"its network differs from the option section network_g: {name} has {was_there} in the checkpoint "
                    f"and {is_here} in the options; use the network_g of the interrupted run"
                )
    yield from _optimizer_misfits(opt["train"]["optim_g"], state, [p for p in net.parameters() if p.requires_grad])
    settings = opt["train"]["scheduler"]
    schedulers = state["schedulers"]
    if len(schedulers) != 1:
        yield f"it must contain one schedule; got {len(schedulers)}"
    elif "options" not in state and (missing := settings.keys() - {"type"} - schedulers[0].keys()):
        yield (
            f"its schedule has no {', '.join(sorted(missing))}, so it is not a {settings['type']}; use the "
            "train:scheduler of the interrupted run"
        )


def _optimizer_misfits(settings: Mapping[str, Any], state: Mapping[str, Any], trained: list[Tensor]) -> Iterator[str]:
    if len(state["optimizers"]) != 1:
        yield f"it must contain one optimizer; got {len(state['optimizers'])}"
        return
    content = state["optimizers"][0]
    sizes = [len(group["params"]) for group in content["param_groups"]]
    if sizes != [len(trained)]:
        yield (
            f"its optimizer has {' + '.join(map(str, sizes))} weight tensors, and this run trains {len(trained)}; use "
            "the network_g of the interrupted run"
        )
        return
    moments_of = functools.cache(functools.partial(_moments, settings))
    for index, moments in content["state"].items():
        needed = moments_of(trained[index].ndim)
        if missing := needed.keys() - moments.keys():
            yield (
                f"its optimizer has no {', '.join(sorted(missing))}, which {settings['type']} needs; use the "
                "train:optim_g of the interrupted run, or start a new run from its weights with path:pretrain_network_g"
            )
            return
        for name, value in moments.items():
            if needed.get(name) and isinstance(value, Tensor) and value.shape != trained[index].shape:
                yield (
                    f"its optimizer has the moment {name} of shape {_shape(value.shape)} for a weight of shape "
                    f"{_shape(trained[index].shape)}, so it belongs to another network"
                )


def _moments(settings: Mapping[str, Any], dimensions: int) -> dict[str, bool]:
    """Return the names of the values that an optimizer keeps for a weight, and whether they have the weight's shape."""
    weight = nn.Parameter(torch.zeros((2,) * dimensions))
    optimizer = build("optim_g", settings, [weight])
    weight.grad = torch.zeros_like(weight)
    try:
        optimizer.step()
    except Exception:  # this optimizer needs a GPU, or other weights
        return {}
    state = optimizer.state[weight].items()
    return {
        name: isinstance(value, Tensor) and value.shape == weight.shape for name, value in state if value is not None
    }


def _shape(sizes: Any) -> str:
    return "no tensor" if sizes is None else "x".join(map(str, sizes)) or "one number"
