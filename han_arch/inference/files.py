"""Upscale image files, one job after another. A job that fails does not stop the others."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from tqdm import tqdm

from han_arch.errors import UserError, printable, reason
from han_arch.files import replacing
from han_arch.images.formats import FORMATS, ImageFormat
from han_arch.images.header import Header
from han_arch.images.picture import ImageError, Picture
from han_arch.images.read import MAX_PIXELS, read_header, read_picture
from han_arch.images.write import WriteOptions
from han_arch.inference.engines import Engine
from han_arch.inference.jobs import UpscaleJob
from han_arch.inference.pixels import Listener, NotFinite, side_by_side, upscale_pixels
from han_arch.inference.plan import Plan, PlanRequest, choose, size_text
from han_arch.speed.memory import trim_freed_memory
from han_arch.version import __version__


@dataclass(frozen=True)
class UpscaleSettings:
    """Settings that apply to all images.

    Attributes:
        budget: memory limit of the program in bytes, not counting the upscaled image.
        memory: memory limit as the user wrote it, such as "2G", for the metadata.
        max_pixels: largest allowed number of pixels of a source image.
    """

    write: WriteOptions
    budget: int
    memory: str
    self_ensemble: bool = False
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS


def upscale_files(jobs: list[UpscaleJob], engine: Engine, settings: UpscaleSettings) -> int:
    """Upscale the images of all jobs in order. Show progress, print each error, and return the number of failures.

    Raises:
        UserError: no image can become a file of its format. This is found before any work.
    """
    sizes, refusals = _examined(jobs, engine.scale, settings.max_pixels)
    if len(refusals) == len(jobs):
        raise UserError("\n  ".join(f"{job.name}: {refusal}" for job, refusal in refusals.items()))
    for job, refusal in refusals.items():
        _report(job, refusal)
    failed = len(refusals)
    progress_bar = partial(tqdm, unit="pixel", unit_scale=True, dynamic_ncols=True)
    with progress_bar(total=sum(sizes.values()), desc="all images") as bar:
        for job, size in sizes.items():
            with progress_bar(desc=printable(Path(job.name).name), leave=False) as own:
                try:
                    _upscale(job, engine, settings, _updating(bar, own, size))
                except Exception as error:  # libraries raise many types for damaged images; the other images go on
                    failed += 1
                    _report(job, _reason(error))
    return failed


def _examined(
    jobs: list[UpscaleJob], scale: int, max_pixels: int
) -> tuple[dict[UpscaleJob, int], dict[UpscaleJob, str]]:
    """Read the headers of all sources. Return the jobs to do, with their numbers of pixels, and refusals with a reason.

    A job is refused if its format cannot store the upscaled image. The number of pixels, for the progress bar, is 0 if
    the header cannot be read.
    """
    sizes: dict[UpscaleJob, int] = {}
    refusals: dict[UpscaleJob, str] = {}
    for job in jobs:
        sizes[job] = 0
        if job.source is None or not job.source.is_file():  # opening a named pipe would block
            continue
        try:
            with job.source.open("rb") as file:
                header = read_header(file, max_pixels)
        except Exception:  # the job itself reports the error
            continue
        height, width, channels = header.shape
        try:
            pixel = Picture(np.zeros((1, 1, channels), f"u{header.itemsize}"))
            job.format.fit(pixel, scale * height, scale * width)
            sizes[job] = height * width
        except (ImageError, UserError) as error:
            refusals[job] = str(error)
            del sizes[job]
    return sizes, refusals


def _report(job: UpscaleJob, why: str) -> None:
    tqdm.write(printable(f"basicsr upscale: {job.name}: {why}"), file=sys.stderr)


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line."""
    if isinstance(error, MemoryError):
        return "not enough memory to read or write the image"
    return "; ".join(str(error).splitlines()) if isinstance(error, (ImageError, NotFinite)) else reason(error)


def _updating(bar: "tqdm[None]", own: "tqdm[None]", size: int) -> Callable[[int, int], None]:
    """Return a callback that updates two progress bars: `own`, for one image of `size` pixels, and `bar`, for all."""
    start = bar.n

    def update(done: int, total: int) -> None:
        own.total = total
        own.update(done - own.n)
        bar.update(start + size * done // total - bar.n)

    return update


def _upscale(job: UpscaleJob, engine: Engine, settings: UpscaleSettings, progress: Callable[[int, int], None]) -> None:
    def say(text: str) -> None:
        stream = sys.stderr if job.target is None else sys.stdout
        try:
            tqdm.write(printable(text), file=stream)
        except BrokenPipeError:  # a program such as `head` reads no more; the images do not depend on it
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())

    scale, ensemble = engine.scale, settings.self_ensemble
    costs = [0]  # bytes of memory for decoding the source

    def plan_for(shape: tuple[int, ...], itemsize: int, writing: int) -> Plan:
        return choose(PlanRequest(shape, itemsize, engine.cost, settings.budget, ensemble, writing, max(costs)))

    def examine(header: Header) -> None:
        costs.append(size + header.reading)
        plan_for(header.shape, header.itemsize, job.format.bytes_a_pixel(settings.write))

    data = _read(job.source, settings, engine.cost.resting)
    size = len(data)
    picture = read_picture(data, settings.max_pixels, examine)
    del data
    trim_freed_memory()
    height, width = picture.pixels.shape[:2]
    one_pixel = replace(picture, pixels=picture.pixels[:1, :1].copy())
    fitted = job.format.fit(one_pixel, scale * height, scale * width)
    notes, writing = fitted.notes, job.format.bytes_a_pixel(settings.write)
    if fitted.pixels.nbytes != one_pixel.pixels.nbytes:  # a converted copy is made before writing
        writing += fitted.pixels.nbytes
    plan = plan_for(picture.pixels.shape, picture.pixels.itemsize, writing)
    say(
        f"{job.name} {width}x{height} -> {job.target or 'standard output'} {scale * width}x{scale * height}: "
        f"{plan.describe(height, width)}; peak memory up to {size_text(plan.peak)}, limit {size_text(settings.budget)}"
    )
    for note in notes:
        say(f"  {note}")
    listener = Listener(progress, lambda text: tqdm.write(f"  warning: {text}", file=sys.stderr))
    result = upscale_pixels(picture.pixels, engine, plan, ensemble, listener)
    software = (
        f"han_arch {__version__} upscale; model={engine.name}; scale={scale}; plan={result.plan}; "
        f"memory={settings.memory}; dtype={engine.dtype}; self_ensemble={'yes' if ensemble else 'no'}"
    )
    finished, comparison = replace(picture, pixels=result.pixels), None
    if job.comparison:
        comparison = Picture(side_by_side(picture.pixels, result.pixels, scale), picture.icc, picture.dpi)
    del picture  # frees the memory of the source before the upscaled image is written
    finished = job.format.fit(finished, scale * height, scale * width)
    _write(finished, job.target, job.format, settings, software)
    if comparison is not None:
        _write(comparison, job.comparison, FORMATS["png"], settings, software)
        say(f"  {job.comparison}: bicubic interpolation on the left, {engine.name} on the right")


def _read(source: Path | None, settings: UpscaleSettings, resting: int) -> bytes:
    """Read a source, but no more than the settings allow. `resting` bytes of the memory limit are already in use."""
    most = 8 * settings.max_pixels + (1 << 24)  # bytes of uncompressed 16-bit RGBA and file headers
    limit = min(most, max(0, settings.budget - resting))
    if source is None:
        data = sys.stdin.buffer.read(limit + 1)
    elif source.is_file():
        with source.open("rb") as file:
            data = file.read(limit + 1)
    else:
        raise ImageError("not a regular file" if source.exists() else "a link to a missing file")
    if len(data) > most:
        found = f"the image has more than {most:,} bytes, too many for {settings.max_pixels:,} pixels"
        raise ImageError(f"{found}; pass a larger --max-pixels")
    if len(data) > limit:
        raise UserError(f"the file has more than {size_text(limit)}; pass a larger --memory than {settings.memory}")
    return data


def _write(
    picture: Picture, target: Path | None, image_format: ImageFormat, settings: UpscaleSettings, software: str
) -> None:
    software = software.encode("ascii", "backslashreplace").decode()  # EXIF allows only ASCII
    if target is None:
        with tempfile.TemporaryFile() as buffer:  # standard output may not be seekable, and memory is limited
            image_format.write(cast(BinaryIO, buffer), picture, settings.write, software)
            buffer.seek(0)
            shutil.copyfileobj(buffer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, overwrite=settings.overwrite) as file:
        image_format.write(file, picture, settings.write, software)
