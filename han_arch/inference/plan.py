"""Choose how an image is run: whole, whole with the tail in strips, or in tiles, so that a memory budget is kept.

The choice depends on the image, the network and the budget alone. Free memory, device and dtype play no part, so that
the pixels do not depend on them. Plans assume float32: tiles that overflow in half precision are computed in it again.
"""

import math
import re
import sys
from dataclasses import dataclass, replace

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.images.formats import PILLOW_BYTES
from han_arch.inference.strips import HALO, strip_rows
from han_arch.inference.tiles import OVERLAP, SMALLEST_TILE

DEFAULT_BUDGET = "2G"
# Measured on 2026-11-23 as peak resident memory (Linux's VmHWM after clearing it, as `basicsr bench` does) on a CPU,
# PyTorch 2.14.1, one thread: 16 to 64 features, 2 to 10 groups, all dtypes, inputs of 256 x 256 and 512 x 384.
# The unit is one map of (LR pixels x num_feat) numbers.
BASE = 650_000_000  # Python with PyTorch, Pillow and OpenCV, and small buffers
FEATURES_FACTOR = 1.6  # num_group + 7 maps; up to 1.53 times as many below 32 MB a map, which the C library keeps
TAIL_FACTOR = 1.15  # 2 * scale^2 maps; measured: 8.0, 18.0 to 18.7, 32.0 to 32.3, 128.0 to 128.3 at x2, x3, x4, x8
STRIP_BYTES = 128_000_000  # of the tail's largest maps, in a strip
FULL, STRIPS, TILES = "full", "strips", "tiles"
_FLOAT = 4
_STEP = 16  # tile sizes are multiples of it
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str | int, what: str = "--memory") -> int:
    """Convert a text such as "2G", "1.5GB" or "800M", in decimal units, to bytes (or pixels).

    Raises:
        UserError: no such size, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(text).strip(), re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UserError(f"{what} must be a number with K, M, G or T, such as {DEFAULT_BUDGET}; got {text!r}")
    return size


def size_text(size: float) -> str:
    """Format bytes for a message: "1.9 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class MemoryCost:
    """The numbers that a network's memory depends on.

    Attributes:
        num_feat: channels of its features.
        maps: feature maps of the input's size that it holds at its peak.
        scale: its scale.
        channels: channels of a result; 3 for a grey network too, which runs over each channel of a colour image.
        weights: bytes of its weights.
        in_strips: whether its tail can be computed in strips. If not, the whole tail adds to the features.
    """

    num_feat: int
    maps: int
    scale: int
    channels: int
    weights: int
    in_strips: bool = True

    @classmethod
    def of(cls, net: HAN) -> "MemoryCost":
        """Return the cost of a network in PyTorch."""
        weights = sum(parameter.numel() * _FLOAT for parameter in net.parameters())
        channels = max(3, net.conv_last.out_channels)
        return cls(net.conv_last.in_channels, len(net.body) + 7, net.upscale, channels, weights)

    @property
    def strip_pixels(self) -> int:
        """LR pixels that go through the tail at a time."""
        return max(1, int(STRIP_BYTES / self.tail_bytes)) if self.in_strips else sys.maxsize

    @property
    def resting(self) -> int:
        """Bytes without an image: Python, its libraries, the weights in float32 and in half precision."""
        return BASE + 2 * self.weights

    @property
    def tail_bytes(self) -> float:
        """Bytes of the tail without strips, for each LR pixel."""
        return TAIL_FACTOR * 2 * self.scale**2 * self.num_feat * _FLOAT

    def features(self, height: int, width: int) -> int:
        """Bytes of `HAN.features`, with maps that the C library keeps, and of one strip of the tail."""
        one_map = height * width * self.num_feat * _FLOAT
        rows = min(height, strip_rows(height, width, self.strip_pixels) + 2 * HALO)
        return int(FEATURES_FACTOR * self.maps * one_map + self.tail_bytes * rows * width)

    def result(self, height: int, width: int) -> int:
        """Bytes of the result in float32."""
        return height * width * self.scale**2 * self.channels * _FLOAT


@dataclass(frozen=True)
class Plan:
    """How an image goes through the network.

    Attributes:
        kind: "full", "strips" (the whole image, its tail in strips: the same pixels) or "tiles".
        tile: LR pixels of a tile's side without overlap; 0 unless kind is "tiles".
        overlap: LR pixels that a tile sees beyond each side; 0 unless kind is "tiles".
        peak: the most bytes expected, without the finished image.
    """

    kind: str
    tile: int = 0
    overlap: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (FULL, STRIPS, TILES) or (self.kind == TILES and (self.tile < 1 or self.overlap < 0)):
            got = f"{self.kind!r} with tile {self.tile} and overlap {self.overlap}"
            raise ValueError(f"a plan is full, strips, or tiles with tile >= 1 and overlap >= 0; got {got}")

    def __str__(self) -> str:
        return f"tiles-{self.tile}-{self.overlap}" if self.kind == TILES else self.kind

    def describe(self, height: int, width: int) -> str:
        """Explain the plan for an image of height x width LR pixels."""
        if self.kind == FULL:
            return "full (the whole image at once)"
        if self.kind == STRIPS:
            return "strips (the whole image, its tail in strips)"
        rows, columns = (-(-side // self.tile) for side in (height, width))
        return f"{self} ({columns}x{rows} tiles, each with {self.overlap} pixels of its neighbours)"

    def halved(self, height: int, width: int) -> "Plan | None":
        """Return the plan to try when memory ran out: tiles of half the side; None after the smallest tiles."""
        side = self.tile if self.kind == TILES else max(height, width)
        tile = max(SMALLEST_TILE, _down(side // 2))
        return Plan(TILES, tile, OVERLAP, self.peak) if tile < side else None


@dataclass(frozen=True)
class PlanRequest:
    """The image, the network and the budget that a plan is chosen for.

    Attributes:
        shape: (h, w, channels) of the image, alpha included.
        itemsize: bytes of a sample.
        cost: the network's.
        budget: bytes for the process, without the finished image.
        self_ensemble: whether the result is the mean of eight runs.
        writing: bytes for a pixel of the finished image while it is written. They can rule out a plan, not change it.
    """

    shape: tuple[int, ...]
    itemsize: int
    cost: MemoryCost
    budget: int
    self_ensemble: bool = False
    writing: int = PILLOW_BYTES

    def results(self, height: int, width: int) -> int:
        """Bytes of results in floats: for the ensemble also its sum, and one result turned and turned back."""
        return (4 if self.self_ensemble else 2) * self.cost.result(height, width)


def choose(request: PlanRequest) -> Plan:
    """Choose the first of full, strips and tiles that keeps the budget, with the largest tiles that do.

    Raises:
        UserError: not even the smallest tile fits; the message says how much memory is needed.
    """
    (height, width, channels), cost, budget = request.shape, request.cost, request.budget
    image = math.prod(request.shape) * request.itemsize
    before = cost.resting + image
    whole = cost.features(height, width)
    if request.self_ensemble:  # without it, each strip goes straight into the finished image
        whole += request.results(height, width)
    with_tail = max(whole, int(cost.tail_bytes * height * width))
    if height * width <= cost.strip_pixels and before + with_tail <= budget:
        plan = Plan(FULL, peak=before + with_tail)
    elif before + whole <= budget:
        plan = Plan(STRIPS, peak=before + whole)
    else:
        plan = _tiles(request, before)
    finished = height * width * cost.scale**2
    reading = 2 * image + PILLOW_BYTES * height * width
    with_alpha = image + (finished * request.itemsize if channels in (2, 4) else 0)
    needed = max(plan.peak, cost.resting + max(reading, with_alpha, request.writing * finished))
    if needed > budget:
        least = f"{math.ceil(needed / 1e8) / 10:g}G"
        raise UserError(f"{width}x{height} pixels need --memory {least} at least; got {size_text(budget)}")
    return replace(plan, peak=needed)


def _tiles(request: PlanRequest, before: int) -> Plan:
    """Return the largest tiles that fit; before: the bytes without the tiles' own."""
    (height, width, _), cost = request.shape, request.cost
    border = 2 * OVERLAP * width * cost.scale**2 * cost.channels * _FLOAT  # blended rows of two rows of tiles

    def peak(tile: int) -> int:
        rows, columns = min(height, tile + 2 * OVERLAP), min(width, tile + 2 * OVERLAP)
        return before + border + cost.features(rows, columns) + request.results(rows, columns)

    low, high = SMALLEST_TILE // _STEP, max(SMALLEST_TILE, _down(max(height, width) - 1)) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak(middle * _STEP) <= request.budget else (low, middle - 1)
    return Plan(TILES, low * _STEP, OVERLAP, peak(low * _STEP))


def _down(side: int) -> int:
    return side // _STEP * _STEP
