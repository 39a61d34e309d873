"""Convolutions by Winograd's algorithm: nearly twice as fast as direct ones in float32 on a CPU."""

from han_arch.speed.winograd.convolution import WinogradConv2d, use_winograd

__all__ = ["WinogradConv2d", "use_winograd"]
