"""How much memory an image takes: a formula from the network's dimensions, with factors that were measured.

Measured on 2026-11-23 as the peak of the resident memory (Linux's VmHWM after clearing it, as `basicsr bench` does) on
a CPU, PyTorch 2.14.1, one thread; in maps of (LR pixels x num_feat) numbers, for 16 to 64 features, 2 to 10 groups,
float32, bfloat16 and float16, inputs of 256 x 256 and 512 x 384:

- `features` holds num_group + 7 maps while each is above 32 MB; below that the C library keeps freed ones, and the
  peak was up to 1.53 times as much. FEATURES_FACTOR stands above all that was measured.
- `tail` holds 2 * scale^2 maps (8.0, 18.0 to 18.7, 32.0 to 32.3 and 128.0 to 128.3 of them at x2, x3, x4, x8).
- Python with PyTorch, Pillow and OpenCV, and the small buffers around them: BASE.

All is planned for float32, whatever the dtype: a tile that overflows in half precision is computed again in float32.
"""

import re
import sys
from dataclasses import dataclass

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.inference.strips import HALO, strip_rows

DEFAULT = "2G"
BASE = 650_000_000
FEATURES_FACTOR = 1.6
TAIL_FACTOR = 1.15
STRIP_BYTES = 128_000_000  # of the tail's largest maps, in a strip
_FLOAT = 4
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str | int, what: str = "--memory") -> int:
    """Bytes (or pixels) of a text such as "2G", "1.5GB" or "800M": decimal units.

    Raises:
        UserError: it is none, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(text).strip(), re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UserError(f"{what} must be a number with K, M, G or T, such as {DEFAULT}; got {text!r}")
    return size


def size_text(size: float) -> str:
    """Bytes in words: "1.9 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class Cost:
    """What a network's memory depends on.

    Attributes:
        num_feat: channels of its features.
        maps: feature maps of the input's size that it holds at its peak.
        scale: its scale.
        channels: of an image's result: a grey network runs over each of a colour image's three.
        weights: bytes of its weights.
        in_strips: whether its tail can be computed in strips; else it is planned whole, on top of the features.
    """

    num_feat: int
    maps: int
    scale: int
    channels: int
    weights: int
    in_strips: bool = True

    @classmethod
    def of(cls, net: HAN) -> "Cost":
        """The cost of a network."""
        weights = sum(parameter.numel() * _FLOAT for parameter in net.parameters())
        channels = max(3, net.conv_last.out_channels)
        return cls(net.conv_last.in_channels, len(net.body) + 7, net.upscale, channels, weights)

    @property
    def strip_pixels(self) -> int:
        """LR pixels that go through the tail at a time."""
        if not self.in_strips:
            return sys.maxsize
        return max(1, int(STRIP_BYTES / self._tail_bytes))

    @property
    def resting(self) -> int:
        """Bytes without an image: Python, its libraries, the weights in float32 and in half precision."""
        return BASE + 2 * self.weights

    @property
    def _tail_bytes(self) -> float:
        return TAIL_FACTOR * 2 * self.scale**2 * self.num_feat * _FLOAT

    def features(self, height: int, width: int) -> int:
        """Bytes of `HAN.features` and a strip of the tail; of the first the C library may keep what has been freed."""
        one_map = height * width * self.num_feat * _FLOAT
        return int(FEATURES_FACTOR * self.maps * one_map + self._strip(height, width))

    def whole_tail(self, height: int, width: int) -> int:
        """Bytes of the tail without strips."""
        return int(self._tail_bytes * height * width)

    def result(self, height: int, width: int) -> int:
        """Bytes of the result in float32."""
        return height * width * self.scale**2 * self.channels * _FLOAT

    def _strip(self, height: int, width: int) -> float:
        rows = min(height, strip_rows(height, width, self.strip_pixels) + 2 * HALO)
        return self._tail_bytes * rows * width
