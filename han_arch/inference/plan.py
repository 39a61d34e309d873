"""The plan for an image: whole, whole with the tail in strips, or overlapping tiles; chosen from sizes alone.

Neither the machine's free memory nor its device or dtype takes part, so that an image's pixels depend on the image, the
network and the budget.
"""

import math
from dataclasses import dataclass

from han_arch.errors import UserError
from han_arch.inference.memory import Cost, size_text

OVERLAP = 32  # LR pixels that a tile sees beyond its share; see docs/upscale.md for what that is worth
SMALLEST_TILE = 32
_STEP = 16  # tiles' sides are its multiples
FULL, STRIPS, TILES = "full", "strips", "tiles"


@dataclass(frozen=True)
class Plan:
    """How an image goes through the network.

    Attributes:
        kind: "full", "strips" (the whole image, its tail in strips: the same pixels) or "tiles".
        tile: LR pixels of a tile's share of the image, without overlap; 0 unless kind is "tiles".
        overlap: LR pixels that a tile sees beyond its share; 0 unless kind is "tiles".
        peak: bytes that are expected at most, without the finished image.
    """

    kind: str
    tile: int = 0
    overlap: int = 0
    peak: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (FULL, STRIPS, TILES) or (self.kind == TILES and (self.tile < 1 or self.overlap < 0)):
            raise ValueError(
                "a plan is full, strips, or tiles with tile >= 1 and overlap >= 0; got "
                f"{self.kind!r} with tile {self.tile} and overlap {self.overlap}"
            )

    def __str__(self) -> str:
        return f"tiles-{self.tile}-{self.overlap}" if self.kind == TILES else self.kind

    def halved(self, height: int, width: int) -> "Plan | None":
        """The plan after memory ran out: tiles of half the side; None when they are at their smallest."""
        side = self.tile if self.kind == TILES else max(height, width)
        tile = max(SMALLEST_TILE, _down(side // 2))
        return Plan(TILES, tile, OVERLAP, self.peak) if tile < side else None


@dataclass(frozen=True)
class Load:
    """What an image takes besides the network's work, in bytes.

    Attributes:
        held: while the network works, without the finished image.
        passing: at the most before or after that: reading, writing.
    """

    held: int = 0
    passing: int = 0


def choose(height: int, width: int, cost: Cost, budget: int, load: Load, self_ensemble: bool = False) -> Plan:
    """The first of full, strips and tiles that stays within the budget; tiles as large as that allows.

    Args:
        height: of the image, in LR pixels.
        width: of the image, in LR pixels.
        cost: the network's.
        budget: bytes for the whole process, without the finished image.
        load: what the image itself takes.
        self_ensemble: the mean of eight runs.

    Raises:
        UserError: not even the smallest tile fits; says how much is needed.
    """
    before = cost.resting + load.held
    whole = cost.features(height, width)
    if self_ensemble:  # else strip after strip goes straight into the finished image
        whole += _results(height, width, cost, self_ensemble)
    with_tail = max(whole, cost.whole_tail(height, width))
    if height * width <= cost.strip_pixels and before + with_tail <= budget:
        plan = Plan(FULL, peak=before + with_tail)
    elif before + whole <= budget:
        plan = Plan(STRIPS, peak=before + whole)
    else:
        plan = _tiles(height, width, cost, budget, before, self_ensemble)
    needed = max(plan.peak, cost.resting + load.passing)
    if needed > budget:
        raise UserError(
            f"{width}x{height} pixels need --memory {math.ceil(needed / 1e8) / 10:g}G at least; got {size_text(budget)}"
        )
    return Plan(plan.kind, plan.tile, plan.overlap, needed)


def _tiles(height: int, width: int, cost: Cost, budget: int, before: int, self_ensemble: bool) -> Plan:
    border = 2 * OVERLAP * width * cost.scale**2 * cost.channels * 4  # the fading rows of two rows of tiles

    def peak(tile: int) -> int:
        rows, columns = min(height, tile + 2 * OVERLAP), min(width, tile + 2 * OVERLAP)
        work = cost.features(rows, columns) + _results(rows, columns, cost, self_ensemble)
        return before + border + work

    low, high = SMALLEST_TILE // _STEP, max(SMALLEST_TILE, _down(max(height, width) - 1)) // _STEP
    while low < high:  # the largest that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if peak(middle * _STEP) <= budget else (low, middle - 1)
    return Plan(TILES, low * _STEP, OVERLAP, peak(low * _STEP))


def _results(height: int, width: int, cost: Cost, self_ensemble: bool) -> int:
    """The result in floats, on its way to the finished image; the ensemble's sum, and one turned and turned back."""
    return (4 if self_ensemble else 2) * cost.result(height, width)


def _down(side: int) -> int:
    return side // _STEP * _STEP
