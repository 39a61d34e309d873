"""Build networks of unknown size, because an option file of a few bytes can ask for any number of modules."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from han_arch.errors import UserError

MOST_MODULES = 10_000  # HAN has 2,700; so many can be built on the device meta in a few seconds


@contextmanager
def limited_modules() -> Iterator[None]:
    """Context in which a network is built. Raise UserError as soon as it has more than `MOST_MODULES` modules."""
    count = 0

    def add(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal count
        count += 1
        if count > MOST_MODULES:
            raise UserError(f"the network has more than {MOST_MODULES:,} modules; choose smaller numbers of blocks")

    handle = register_module_module_registration_hook(add)
    try:
        yield
    finally:
        handle.remove()


def build_empty(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network on PyTorch's meta device, so that its weights take no memory.

    Meta tensors have no values. If the constructor needs values, the network is built on the CPU. The random state does
    not change.

    Raises:
        UserError: the network has more than `MOST_MODULES` modules.
        Exception: any other exception that the constructor raises.
    """
    try:
        return _build_on("meta", build)
    except Exception as error:
        if "meta" not in str(error):
            raise
    return _build_on("cpu", build)


def _build_on(device: str, build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]), torch.device(device), limited_modules():
        return build()
