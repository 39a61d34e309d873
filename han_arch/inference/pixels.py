"""Super-resolve the pixels of an image with an engine and a plan, for `basicsr upscale` and `han_arch.upscale`."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.engines import Engine
from han_arch.inference.plan import TILES, Plan, size_text
from han_arch.inference.tiles import Region, Tiling, blended
from han_arch.inference.variants import self_ensemble
from han_arch.speed.memory import trim_freed_memory

COMPARED_SIDE = 2048  # largest side in pixels of each half of a comparison; a larger image is cropped to its middle
LUMA = (0.299, 0.587, 0.114)  # weights of R, G, B (BT.601), which convert the output of a colour network to grey
# Error messages that mean "out of memory", from PyTorch's allocators and oneDNN. oneDNN's messages ("could not create")
# do not mention memory, but with these networks it is their only cause.
_OUT_OF_MEMORY = re.compile(
    "(out of|not enough|can't allocate|cannot allocate) memory|bad_alloc|could not create a (primitive|memory)",
    re.IGNORECASE,
)


class NotFinite(ValueError):
    """Error for a network that returns nan or infinite values, even in float32."""


@dataclass(frozen=True)
class Upscaled:
    """An upscaled image and the plan that was used. `pixels` is (scale*h, scale*w, channels) with the input's dtype."""

    pixels: np.ndarray
    plan: Plan


@dataclass(frozen=True)
class Listener:
    """Callbacks. `warn` gets a message. `progress` gets the finished and the total LR pixels, with tile overlaps."""

    progress: Callable[[int, int], None] = lambda done, total: None
    warn: Callable[[str], None] = lambda message: None


def upscale_pixels(
    pixels: np.ndarray, engine: Engine, plan: Plan, ensemble: bool = False, listener: Listener | None = None
) -> Upscaled:
    """Super-resolve an image.

    If memory runs out, the image is computed again with tiles of half the height and width. If the output in half
    precision is not finite, the image or tile is computed again in float32. Both times, `listener.warn` gets a warning.

    Args:
        pixels: the image, (h, w, 1 to 4), of uint8, uint16, or floats in [0, 1]. The channels are grey, grey and alpha,
            RGB, or RGB and alpha.
        ensemble: whether to return the mean of the outputs for the eight flips and transposes of the image.

    Returns:
        The upscaled image, and the plan that was used in the end. Integers are rounded, and all values are clipped to
        their range. Alpha is upscaled by bicubic interpolation. A colour network gets a grey image as three equal
        channels, and the luma of its output is used. A grey network runs once for each channel of a colour image.

    Raises:
        UserError: memory runs out even with the smallest tiles.
        NotFinite: the network returns nan or infinite values in float32.
    """
    run = _ImageRun(pixels, engine, ensemble, listener or Listener())
    backend = getattr(torch, engine.device.partition(":")[0], None)
    while True:
        try:
            run.follow(plan)
            trim_freed_memory()  # the caller needs memory to write the image
            return Upscaled(run.result, plan)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not _OUT_OF_MEMORY.search(str(error)):
                raise
        # Not inside the except block: there, the traceback would keep the feature maps in memory.
        getattr(backend, "empty_cache", lambda: None)()
        smaller = plan.halved(*pixels.shape[:2])
        if smaller is None:
            expected = f"{plan}, expected memory {size_text(plan.peak)}"
            raise UserError(f"out of memory with the smallest tiles ({expected}); free some memory")
        run.listener.warn(f"out of memory with plan {plan}; trying again with {smaller}, which changes the pixels")
        plan = smaller


def side_by_side(pixels: np.ndarray, result: np.ndarray, scale: int) -> np.ndarray:
    """Return a picture that shows bicubic interpolation on the left and the network's output on the right.

    pixels is the image, (h, w, channels). result is the network's output, (scale*h, scale*w, channels). Of a large
    image, the picture shows only the middle.
    """
    height, width = (min(length, COMPARED_SIDE // scale) for length in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    shown = result[scale * top : scale * (top + height), scale * left : scale * (left + width)]
    enlarged = _bicubic(pixels[top : top + height, left : left + width], scale)
    return np.concatenate([enlarged.reshape(shown.shape), shown], axis=1)


class _ImageRun:
    """One image, the engine that upscales it, and the result."""

    def __init__(self, pixels: np.ndarray, engine: Engine, ensemble: bool, listener: Listener) -> None:
        self.pixels, self.engine, self.ensemble, self.listener = pixels, engine, ensemble, listener
        height, width, channels = pixels.shape
        self.result = np.empty((engine.scale * height, engine.scale * width, channels), pixels.dtype)
        self.white = int(np.iinfo(pixels.dtype).max) if pixels.dtype.kind == "u" else 1
        self.colours = channels - (channels in (2, 4))
        if self.colours < channels:
            self.result[..., -1] = _bicubic(pixels[..., -1], engine.scale)
        self.warned = False

    @torch.inference_mode()
    def follow(self, plan: Plan) -> None:
        """Super-resolve the image according to the plan, and write the pixels to `self.result`."""
        height, width = self.pixels.shape[:2]
        if plan.kind == TILES:
            self._follow_tiles(Tiling(height, width, self.engine.scale, plan.tile, plan.overlap))
            return
        self.listener.progress(0, height * width)
        for engine in self._engines():
            if all(self._put(row, 0, strip[0]) for row, strip in self._strips(engine, (0, height, 0, width))):
                break
        self.listener.progress(height * width, height * width)

    def _follow_tiles(self, tiling: Tiling) -> None:
        total, done = tiling.pixels, 0

        def run(region: Region) -> Tensor:
            nonlocal done
            self.listener.progress(done, total)
            trim_freed_memory()  # otherwise, memory that is free but fragmented adds up from tile to tile
            done += (region[1] - region[0]) * (region[3] - region[2])
            tiles = (_joined(self._strips(engine, region)) for engine in self._engines())
            return next(tile for tile in tiles if torch.isfinite(tile).all())

        for row, column, block in blended(run, tiling):
            self._put(row, column, block[0])
        self.listener.progress(total, total)

    def _engines(self) -> Iterator[Engine]:
        """Yield the engines to try: first this engine, then, with a warning, the same network in float32."""
        yield self.engine
        wide = self.engine.in_float32()
        if wide is not None:
            if not self.warned:
                self.listener.warn(f"the output is not finite in {self.engine.dtype}; computing it again in float32")
            self.warned = True
            yield wide
        raise NotFinite(f"the network {self.engine.name} returns values that are not finite in float32")

    def _strips(self, engine: Engine, region: Region) -> Iterator[tuple[int, Tensor]]:
        """Super-resolve a region of the image. Yield pairs (row, strip). The strip is (1, colours, rows, columns)."""
        part = self.pixels[region[0] : region[1], region[2] : region[3], : self.colours]
        # Always channels_last: with another memory format, PyTorch selects other kernels, which round differently.
        lq = torch.from_numpy(np.ascontiguousarray(part, np.float32)).unsqueeze(0).permute(0, 3, 1, 2) / self.white
        if self.ensemble:
            yield 0, self_ensemble(lambda turned: _joined(_colours(engine, turned)), lq)
        else:
            yield from _colours(engine, lq)

    def _put(self, row: int, column: int, block: Tensor) -> bool:
        """Write a block, (colours, rows, columns), to the upscaled image. Return False if a value is not finite."""
        if not torch.isfinite(block).all():
            return False
        block = block.clamp(0, 1)
        if self.white > 1:
            block = block.mul_(self.white).round_()
        rows, columns = slice(row, row + block.shape[1]), slice(column, column + block.shape[2])
        self.result[rows, columns, : self.colours] = block.permute(1, 2, 0).numpy()
        return True


def _colours(engine: Engine, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Super-resolve `lq` and yield pairs (row, strip). A strip has as many channels as `lq`, for every engine."""
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


def _bicubic(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge an image, (h, w) or (h, w, channels), bicubically. The result aligns with the network's output."""
    size = (scale * image.shape[1], scale * image.shape[0])
    enlarged = cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_CUBIC)
    return enlarged if image.dtype.kind == "u" else enlarged.clip(0, 1)
