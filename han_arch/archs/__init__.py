"""The network and its parts; torch only."""

from han_arch.archs.attention import CSAM, LAM
from han_arch.archs.components import register_component
from han_arch.archs.han_arch import HAN

__all__ = ["HAN", "LAM", "CSAM", "register_component"]
