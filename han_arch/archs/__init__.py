"""HAN and its attention components. This package needs only torch.

It imports all its modules, so that every component is registered.
"""

from importlib import import_module
from pkgutil import iter_modules

from han_arch.archs.attention import CSAM, LAM
from han_arch.archs.components import register_component
from han_arch.archs.han_arch import HAN

__all__ = ["HAN", "LAM", "CSAM", "register_component"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
