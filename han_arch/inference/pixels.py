"""An image's pixels through an engine by a plan: what the command and `han_arch.upscale` share, to the last bit."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.engines import Engine
from han_arch.inference.memory import size_text
from han_arch.inference.plan import TILES, Load, Plan, choose
from han_arch.inference.self_ensemble import self_ensemble
from han_arch.inference.tiles import Region, feathered, spans

LUMA = (0.299, 0.587, 0.114)  # of BT.601, for a grey image from a colour network
# What PyTorch's allocators say, and oneDNN, which tells no reason but fails at nothing else in these networks.
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "could not create a primitive",
    "could not create a memory",
)
PILLOW_BYTES = 5  # for a pixel, while a file is read or written


class NotFinite(ValueError):
    """The network's result has nan or infinite values, in float32 too."""


@dataclass(frozen=True)
class Result:
    """An image that is done: (scale*h, scale*w, channels) of the input's dtype, and the plan that made it."""

    pixels: np.ndarray
    plan: Plan


@dataclass(frozen=True)
class Listener:
    """Who is told of progress (in LR pixels that are done, overlaps included, of as many in all) and of warnings."""

    progress: Callable[[int, int], None] = lambda done, total: None
    warn: Callable[[str], None] = lambda message: None


def plan_for(
    shape: tuple[int, int, int],
    itemsize: int,
    engine: Engine,
    budget: int,
    self_ensemble: bool = False,
    writing: int = PILLOW_BYTES,
) -> Plan:
    """The plan for an image.

    Args:
        shape: (h, w, channels) of the image, alpha included.
        itemsize: bytes of a sample.
        engine: what runs it.
        budget: bytes for the process, without the finished image.
        self_ensemble: the mean of eight runs.
        writing: bytes for a pixel of the finished image while it is written; they may forbid a plan, not change it.

    Raises:
        UserError: it cannot be done within the budget.
    """
    height, width, channels = shape
    pixels, finished = height * width, height * width * engine.scale**2
    held = pixels * channels * itemsize
    alpha = finished * itemsize if channels in (2, 4) else 0
    passing = max(2 * held + PILLOW_BYTES * pixels, held + alpha, writing * finished)
    return choose(height, width, engine.cost, budget, Load(held, passing), self_ensemble)


def upscale_pixels(
    pixels: np.ndarray, engine: Engine, plan: Plan, ensemble: bool = False, listener: Listener | None = None
) -> Result:
    """Super-resolve an image.

    Out of memory, tiles of half the side are tried, with a warning; values that are not finite in half precision are
    computed again in float32, with a warning.

    Args:
        pixels: (h, w, 1 to 4): grey, grey and alpha, RGB, RGB and alpha; uint8, uint16, or floats in [0, 1].
        engine: what runs it.
        plan: from `plan_for`.
        ensemble: the mean over the eight flips and transposes.
        listener: is told of progress and warnings.

    Returns:
        The result and the plan that was followed in the end. Values are clipped to the range and, in integers, rounded
        to the nearest. Alpha is upscaled by bicubic interpolation. A grey image goes through a colour network as three
        equal channels, and the result's luma is taken; a colour image through a grey network channel by channel.

    Raises:
        UserError: memory runs out with the smallest tiles too.
        NotFinite: the network gives nan or infinite values in float32.
    """
    listener = listener or Listener()
    height, width, channels = pixels.shape
    result = np.empty((engine.scale * height, engine.scale * width, channels), pixels.dtype)
    if channels in (2, 4):
        result[..., -1] = _bicubic(pixels[..., -1], engine.scale)
    run = _Run(pixels, result, engine, ensemble, listener)
    following: Plan | None = plan
    while following is not None:
        plan = following
        try:
            run.follow(plan)
            return Result(result, plan)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        # Outside the handler, so that the traceback no longer holds the maps that filled the memory.
        _empty_cache(engine.device)
        following = plan.halved(height, width)
        if following is not None:
            listener.warn(f"out of memory with {plan}; goes on with {following}, which changes pixels")
    raise UserError(f"out of memory with the smallest tiles ({plan}, planned for {size_text(plan.peak)})")


class _Run:
    """One image on its way."""

    def __init__(
        self, pixels: np.ndarray, result: np.ndarray, engine: Engine, ensemble: bool, listener: Listener
    ) -> None:
        self.pixels, self.result, self.engine = pixels, result, engine
        self.ensemble, self.listener = ensemble, listener
        self.colours = pixels.shape[2] - (pixels.shape[2] in (2, 4))
        self.warned = False

    @torch.inference_mode()
    def follow(self, plan: Plan) -> None:
        """Fill the result."""
        height, width = self.pixels.shape[:2]
        if plan.kind == TILES:
            self._tiles(height, width, plan)
            return
        region = (0, height, 0, width)
        self.listener.progress(0, height * width)
        for engine in self._engines():
            if all(self._put(row, 0, strip[0]) for row, strip in self._strips(engine, region)):
                break
        self.listener.progress(height * width, height * width)

    def _tiles(self, height: int, width: int, plan: Plan) -> None:
        sides = (spans(length, plan.tile, plan.overlap) for length in (height, width))
        total, done = math.prod(sum(span.high - span.low for span in side) for side in sides), 0

        def run(region: Region) -> Tensor:
            nonlocal done
            self.listener.progress(done, total)
            done += (region[1] - region[0]) * (region[3] - region[2])
            return self._tile(region)

        for row, column, block in feathered(run, height, width, self.engine.scale, plan.tile, plan.overlap):
            self._put(row, column, block)
        self.listener.progress(total, total)

    def _tile(self, region: Region) -> Tensor:
        tile = torch.empty(0)
        for engine in self._engines():
            tile = _joined(self._strips(engine, region))
            if torch.isfinite(tile).all():
                break
        return tile

    def _engines(self) -> Iterator[Engine]:
        """The engine; to who asks on, because its values were not finite, the same in float32."""
        yield self.engine
        wide = self.engine.in_float32()
        if wide is not None:
            if not self.warned:
                self.listener.warn(f"values that are not finite in {self.engine.dtype}; computed again in float32")
            self.warned = True
            yield wide
        raise NotFinite(f"the network ({self.engine.name}) gives values that are not finite in float32")

    def _strips(self, engine: Engine, region: Region) -> Iterator[tuple[int, Tensor]]:
        """Of the region's result, row and strip (1, colours, rows, columns)."""
        lq = self._lq(region)
        if self.ensemble:
            yield 0, self_ensemble(lambda turned: _joined(_colours(engine, turned)), lq)
        else:
            yield from _colours(engine, lq)

    def _lq(self, region: Region) -> Tensor:
        """(1, colours, h, w) in [0, 1]."""
        part = self.pixels[region[0] : region[1], region[2] : region[3], : self.colours]
        # One order in memory, channels_last: other kernels run for others, and round otherwise.
        lq = torch.from_numpy(np.ascontiguousarray(part, np.float32)).unsqueeze(0).permute(0, 3, 1, 2)
        return lq / _white(self.pixels.dtype)

    def _put(self, row: int, column: int, block: Tensor) -> bool:
        """Into the result, (colours, rows, columns); False when it has values that are not finite."""
        if not torch.isfinite(block).all():
            return False
        white = _white(self.pixels.dtype)
        block = block.clamp(0, 1)
        if white > 1:
            block = block.mul_(white).round_()
        rows, columns = slice(row, row + block.shape[1]), slice(column, column + block.shape[2])
        self.result[rows, columns, : self.colours] = block.permute(1, 2, 0).numpy()
        return True


def _colours(engine: Engine, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Strips of as many channels as lq has, from an engine of 1 or 3."""
    if lq.shape[1] == engine.channels:
        yield from engine.strips(lq)
    elif engine.channels == 1:
        yield 0, torch.cat([_joined(engine.strips(channel)) for channel in lq.split(1, dim=1)], dim=1)
    else:
        luma = torch.tensor(LUMA).view(1, 3, 1, 1)
        for row, strip in engine.strips(lq.expand(-1, 3, -1, -1)):
            yield row, (strip * luma).sum(1, keepdim=True)


def _joined(strips: Iterator[tuple[int, Tensor]]) -> Tensor:
    parts = [strip for _, strip in strips]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _white(dtype: np.dtype) -> int:
    return int(np.iinfo(dtype).max) if dtype.kind == "u" else 1


def _bicubic(plane: np.ndarray, scale: int) -> np.ndarray:
    """A plane (h, w) by bicubic interpolation, whose pixel centres lie as the network's do."""
    height, width = plane.shape
    enlarged = cv2.resize(plane, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)
    return enlarged if plane.dtype.kind == "u" else enlarged.clip(0, 1)


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in _OUT_OF_MEMORY)


def _empty_cache(device: str) -> None:
    backend = getattr(torch, device.partition(":")[0], None)
    if backend is not None and hasattr(backend, "empty_cache"):
        backend.empty_cache()
