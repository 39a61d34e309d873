"""Choose a plan that fits a memory limit: the complete image at once, the network's tail in strips, or tiles.

The tail is the network's last part: upsampling and conv_last. The plan depends neither on the device nor on how much
memory is free. Plans assume float32, because tiles that overflow in half precision are computed again in float32.
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
# Measured on 2026-11-23: peak resident memory (Linux's VmHWM after clearing it, as `basicsr bench` does) on a CPU,
# PyTorch 2.14.1, one thread: 16 to 64 features, 2 to 10 groups, all dtypes, inputs of 256 x 256 and 512 x 384.
# A map has (LR pixels x num_feat) numbers. The features need num_group + 7 maps; up to 1.53 times as many were measured
# with maps below 32 MB, because the C library keeps freed memory of this size. The tail needs 2 * scale^2 maps;
# measured at x2, x3, x4 and x8: 8.0, 18.0 to 18.7, 32.0 to 32.3 and 128.0 to 128.3.
BASE = 650_000_000  # bytes of Python with PyTorch, Pillow and OpenCV, and of small buffers
FEATURES_FACTOR = 1.6
TAIL_FACTOR = 1.15
STRIP_BYTES = 128_000_000  # bytes of the tail's largest maps for one strip
FULL, STRIPS, TILES = "full", "strips", "tiles"
_FLOAT = 4
_CHANNELS = 3  # channels of the upscaled image; a grey network runs once for each channel of a colour image
_STEP = 16  # tile sizes are multiples of this number of LR pixels
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def parse_size(text: str | int, what: str = "--memory") -> int:
    """Convert a text such as "2G", "1.5GB" or "800M" to a number of bytes or pixels; 1K is 1000.

    Raises:
        UserError: the text is not a size, or the size is below 1. The message contains the option name `what`.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", str(text).strip(), re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        units = "without unit or with K, M, G or T"
        raise UserError(f"{what} must be a number above 0, {units}, such as {DEFAULT_BUDGET}; got {text!r}")
    return size


def size_text(size: float) -> str:
    """Format a number of bytes for a message, such as "1.9 GB"."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


@dataclass(frozen=True)
class MemoryCost:
    """Numbers that determine how much memory a network needs.

    Attributes:
        maps: largest number of LR-size feature maps that are in memory at the same time.
        weights: size of the network's weights in float32, in bytes.
        in_strips: whether the network can compute its tail in strips. If not, plans need memory for the complete tail.
    """

    num_feat: int
    maps: int
    scale: int
    weights: int
    in_strips: bool = True

    @classmethod
    def of(cls, net: HAN) -> "MemoryCost":
        """Return the memory cost of a HAN network in PyTorch."""
        weights = sum(parameter.numel() * _FLOAT for parameter in net.parameters())
        return cls(net.conv_last.in_channels, len(net.body) + 7, net.upscale, weights)

    @property
    def strip_pixels(self) -> int:
        """Largest number of LR pixels in a strip of the tail."""
        return max(1, int(STRIP_BYTES / self.tail_bytes)) if self.in_strips else sys.maxsize

    @property
    def resting(self) -> int:
        """Bytes of memory in use before an image is read: Python, its libraries, and two copies of the weights."""
        return BASE + 2 * self.weights

    @property
    def tail_bytes(self) -> float:
        """Bytes of memory that the tail needs per LR pixel."""
        return TAIL_FACTOR * 2 * self.scale**2 * self.num_feat * _FLOAT

    def features(self, height: int, width: int) -> int:
        """Return the memory in bytes that `HAN.features` and one strip of the tail need for an image or tile."""
        one_map = height * width * self.num_feat * _FLOAT
        rows = min(height, strip_rows(height, width, self.strip_pixels) + 2 * HALO)
        return int(FEATURES_FACTOR * self.maps * one_map + self.tail_bytes * rows * width)

    def result(self, height: int, width: int) -> int:
        """Return how many bytes the upscaled image needs in float32. The input has height x width LR pixels."""
        return height * width * self.scale**2 * _CHANNELS * _FLOAT


@dataclass(frozen=True)
class Plan:
    """How the network runs on an image.

    Attributes:
        kind: "full", "strips" or "tiles". The first two use the complete image, and give the same pixels.
        tile: side of a tile in LR pixels, overlap not included; 0 if there are no tiles.
        overlap: number of LR pixels that a tile also reads beyond each of its sides; 0 if there are no tiles.
        peak: expected peak memory in bytes, not counting the upscaled image.

    Raises:
        ValueError: kind is unknown; or kind is "tiles", and tile is below 1 or overlap is below 0.
    """

    kind: str
    tile: int = 0
    overlap: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (FULL, STRIPS, TILES) or (self.kind == TILES and (self.tile < 1 or self.overlap < 0)):
            got = f"kind {self.kind!r}, tile {self.tile} and overlap {self.overlap}"
            raise ValueError(f"kind must be full, strips or tiles; kind tiles needs tile >= 1, overlap >= 0; got {got}")

    def __str__(self) -> str:
        return f"tiles-{self.tile}-{self.overlap}" if self.kind == TILES else self.kind

    def describe(self, height: int, width: int) -> str:
        """Describe in words what the plan does with an image of height x width LR pixels."""
        if self.kind == FULL:
            return "full (the complete image at once)"
        if self.kind == STRIPS:
            return "strips (the complete image; the network's last layers in strips)"
        rows, columns = (-(-side // self.tile) for side in (height, width))
        return f"{self} ({columns}x{rows} tiles; each also reads {self.overlap} pixels of its neighbours)"

    def halved(self, height: int, width: int) -> "Plan | None":
        """Return a plan with tiles of half the height and width; None if the tiles already have the smallest size."""
        side = self.tile if self.kind == TILES else max(height, width)
        tile = max(SMALLEST_TILE, side // 2 // _STEP * _STEP)
        return Plan(TILES, tile, OVERLAP, self.peak) if tile < side else None


@dataclass(frozen=True)
class PlanRequest:
    """The input of `choose`: facts about the image and the network, and the memory limit.

    Attributes:
        shape: shape of the image, (h, w, channels). The alpha channel is counted.
        itemsize: number of bytes per pixel value of the image.
        budget: memory limit of the program in bytes, not counting the upscaled image.
        writing: memory for writing the upscaled image, in bytes per output pixel. A larger number can increase
            `Plan.peak`, but does not change the kind of plan or the tiles. If this
            memory exceeds the limit, `choose` raises UserError.
        reading: memory in bytes for decoding the image, its file included. None: an estimate for Pillow images.
    """

    shape: tuple[int, ...]
    itemsize: int
    cost: MemoryCost
    budget: int
    self_ensemble: bool = False
    writing: int = PILLOW_BYTES
    reading: int | None = None

    def results(self, height: int, width: int) -> int:
        """Return how many bytes float32 copies of the upscaled image need: 4 copies with self-ensemble, otherwise 2."""
        return (4 if self.self_ensemble else 2) * self.cost.result(height, width)


def choose(request: PlanRequest) -> Plan:
    """Return the first plan that fits the memory limit: full, strips, or the largest tiles that fit.

    Raises:
        UserError: the limit is too small for the smallest tiles, or for reading or writing the image. The message
            contains the lowest possible limit.
    """
    (height, width, channels), cost, budget = request.shape, request.cost, request.budget
    image = math.prod(request.shape) * request.itemsize
    before = cost.resting + image
    whole = cost.features(height, width)
    if request.self_ensemble:  # otherwise, strips are copied directly into the upscaled image
        whole += request.results(height, width)
    with_tail = max(whole, int(cost.tail_bytes * height * width))
    if height * width <= cost.strip_pixels and before + with_tail <= budget:
        plan = Plan(FULL, peak=before + with_tail)
    elif before + whole <= budget:
        plan = Plan(STRIPS, peak=before + whole)
    else:
        plan = _tiles(request, before)
    finished = height * width * cost.scale**2
    reading = 2 * image + PILLOW_BYTES * height * width if request.reading is None else request.reading
    with_alpha = image + (finished * request.itemsize if channels in (2, 4) else 0)
    needed = max(plan.peak, cost.resting + max(reading, with_alpha, request.writing * finished))
    if needed > budget:
        least = f"{math.ceil(needed / 1e8) / 10:g}G"
        raise UserError(f"{width}x{height} pixels need --memory {least} or more; got {size_text(budget)}")
    return replace(plan, peak=needed)


def _tiles(request: PlanRequest, before: int) -> Plan:
    """Return the plan with the largest tiles that fit the memory limit. `before` bytes are already in use."""
    (height, width, _), cost = request.shape, request.cost
    border = 2 * OVERLAP * width * cost.scale**2 * _CHANNELS * _FLOAT  # blended border rows of two rows of tiles

    def peak(tile: int) -> int:
        rows, columns = min(height, tile + 2 * OVERLAP), min(width, tile + 2 * OVERLAP)
        return before + border + cost.features(rows, columns) + request.results(rows, columns)

    low, high = SMALLEST_TILE // _STEP, max(SMALLEST_TILE, max(height, width) - 1) // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak(middle * _STEP) <= request.budget else (low, middle - 1)
    return Plan(TILES, low * _STEP, OVERLAP, peak(low * _STEP))
