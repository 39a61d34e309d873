"""A limit on the number of modules of a network, because an option file of a few bytes can ask for any number."""

from collections.abc import Iterator
from contextlib import contextmanager

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
