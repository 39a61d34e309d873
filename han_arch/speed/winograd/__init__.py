"""Convolutions by Winograd's algorithm: in float32 on a CPU nearly twice as fast as direct ones."""

from han_arch.speed.winograd.convolution import WinogradConv2d, use_winograd

__all__ = ["WinogradConv2d", "use_winograd"]
