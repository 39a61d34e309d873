"""HAN (Holistic Attention Network, ECCV 2020), a plugin for BasicSR.

`import han_arch` imports neither torch nor BasicSR. Each public name is imported on first use. The import fallbacks of
`han_arch.compat` are installed immediately, because a spawned data-loading worker needs them before it imports BasicSR.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from han_arch import compat
from han_arch.version import __version__

if TYPE_CHECKING:
    from han_arch.archs.attention import CSAM, LAM
    from han_arch.archs.han_arch import HAN
    from han_arch.inference.upscale import upscale
    from han_arch.registration import register
    from han_arch.speed.winograd import use_winograd
    from han_arch.zoo.load import load_model

__all__ = ["HAN", "LAM", "CSAM", "register", "load_model", "upscale", "use_winograd", "__version__"]

_HOMES = {
    "HAN": "han_arch.archs.han_arch",
    "LAM": "han_arch.archs.attention",
    "CSAM": "han_arch.archs.attention",
    "register": "han_arch.registration",
    "load_model": "han_arch.zoo.load",
    "upscale": "han_arch.inference.upscale",
    "use_winograd": "han_arch.speed.winograd",
}

compat.install_import_fallbacks()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'han_arch' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
