"""What `type` in an option file may name, and which options the named class or function takes: read from BasicSR."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# What BasicSR itself hands to an entry of the registry, or takes out before it.
_SUPPLIED = {
    "loss": (),
    "metric": ("img", "img2"),
    "network": (),
    "optimizer": ("params",),
    "scheduler": ("optimizer", "last_epoch"),
}
_EXTRA = {"metric": ("better",)}  # BasicSR reads it, and metrics get it and ignore it
_TRUSTED = ("basicsr", "han_arch", "torch")  # packages whose ranges stand in the table, and whose **kwargs go nowhere


@dataclass(frozen=True)
class Parameters:
    """The options that an entry takes.

    Args:
        names: all of them.
        required: those without a default.
        passes_on: it takes any other too, and may hand it to something of its own.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    passes_on: bool


def entries(registry: str) -> dict[str, Callable[..., Any]]:
    """Name -> class or function. Needs BasicSR imported and the plugins loaded.

    Args:
        registry: dataset, loss, metric, model, network, optimizer or scheduler.
    """
    from basicsr.models import lr_scheduler
    from basicsr.utils import registry as registries

    if registry == "optimizer":
        return {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
    if registry == "scheduler":
        steps = lr_scheduler.MultiStepRestartLR
        return {
            "MultiStepLR": steps,
            "MultiStepRestartLR": steps,
            "CosineAnnealingRestartLR": lr_scheduler.CosineAnnealingRestartLR,
        }
    attribute = "ARCH_REGISTRY" if registry == "network" else f"{registry.upper()}_REGISTRY"
    found = dict(iter(getattr(registries, attribute)))
    # BasicSR looks a name up with this suffix too.
    return {name.removesuffix("_basicsr"): entry for name, entry in found.items()} | found


def parameters(registry: str, entry: Callable[..., Any]) -> Parameters:
    """The options that an entry of a registry takes, from its signature and, past a `**kwargs`, those of its bases."""
    names, required, open_ended = dict.fromkeys(_EXTRA.get(registry, ())), [], False
    for function in _signatures(entry):
        found = inspect.signature(function).parameters.values()
        open_ended = any(one.kind is one.VAR_KEYWORD for one in found)
        for one in found:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) and one.name not in ("self", *names):
                names[one.name] = None
                if one.default is one.empty:
                    required.append(one.name)
        if not open_ended:
            break
    supplied = _SUPPLIED[registry]
    return Parameters(
        tuple(name for name in names if name not in supplied),
        tuple(name for name in required if name not in supplied),
        open_ended and not trusted(entry),
    )


def trusted(entry: Callable[..., Any]) -> bool:
    """Whether the entry is BasicSR's, PyTorch's or ours: its options have the ranges of the table."""
    return entry.__module__.partition(".")[0] in _TRUSTED


def _signatures(entry: Callable[..., Any]) -> list[Callable[..., Any]]:
    if not inspect.isclass(entry):
        return [entry]
    return [cls.__dict__["__init__"] for cls in entry.__mro__ if "__init__" in cls.__dict__ and cls.__module__ not in
            ("builtins", "torch.nn.modules.module")]  # fmt: skip
