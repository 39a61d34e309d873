"""Files through an engine, one after the other: read, plan, upscale, write; a bad one is named and the rest goes on."""

import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.images.picture import Picture, PictureError
from han_arch.images.read import read_picture, read_size
from han_arch.images.write import Style, fitting, in_place_of, write
from han_arch.inference.engines import Engine
from han_arch.inference.jobs import Job
from han_arch.inference.memory import size_text
from han_arch.inference.pixels import Listener, NotFinite, Result, plan_for, upscale_pixels
from han_arch.inference.plan import Plan
from han_arch.version import __version__

COMPARED_SIDE = 2048  # of each half of a comparison; of larger results the middle is shown
_BYTES_A_PIXEL, _HEADERS = 8, 1 << 24  # the most that a file of so many pixels takes: 16-bit RGBA


@dataclass(frozen=True)
class Settings:
    """What the command line says, for all images.

    Attributes:
        styles: by format.
        budget: bytes for the process, without the finished image.
        memory: the budget as the user wrote it.
        self_ensemble: the mean of eight runs.
        compare: write a comparison with bicubic interpolation beside each result.
        overwrite: replace what is there.
        max_pixels: larger images are refused.
    """

    styles: dict[str, Style]
    budget: int
    memory: str
    self_ensemble: bool = False
    compare: bool = False
    overwrite: bool = False
    max_pixels: int = 2**62


def upscale_files(jobs: list[Job], engine: Engine, settings: Settings) -> int:
    """Do the jobs in their order, with progress and messages; return how many failed."""
    sizes = [_pixels(job, settings.max_pixels) for job in jobs]
    failed = 0
    with tqdm(total=sum(sizes), desc="all", unit="pixel", unit_scale=True, dynamic_ncols=True) as bar:
        for job, size in zip(jobs, sizes, strict=True):
            with tqdm(desc=Path(job.name).name, unit="pixel", unit_scale=True, dynamic_ncols=True, leave=False) as own:
                try:
                    _FileWork(job, engine, settings, bar, own, size).run()
                except (PictureError, NotFinite, UserError, OSError, MemoryError) as error:
                    failed += 1
                    reason = "not enough memory to read or write it" if isinstance(error, MemoryError) else error
                    tqdm.write(f"basicsr upscale: {job.name}: {reason}", file=sys.stderr)
    return failed


def _pixels(job: Job, max_pixels: int) -> int:
    """LR pixels, for the progress bar; 0 for what cannot be told or read."""
    if job.source is None or not job.source.is_file():
        return 0
    try:
        with job.source.open("rb") as file:
            height, width = read_size(file, max_pixels)
    except (PictureError, OSError):
        return 0
    return height * width


class _FileWork:
    """One job."""

    def __init__(
        self, job: Job, engine: Engine, settings: Settings, bar: "tqdm[None]", own: "tqdm[None]", size: int
    ) -> None:
        self.job, self.engine, self.settings = job, engine, settings
        self.bar, self.own, self.size = bar, own, size
        self.start = bar.n
        self.style = settings.styles[job.format]

    def run(self) -> None:
        picture = read_picture(self._read(), self.settings.max_pixels)
        height, width, channels = picture.pixels.shape
        scale = self.engine.scale
        sample = replace(picture, pixels=picture.pixels[:1, :1])
        notes = fitting(sample, self.style, scale * height, scale * width).notes
        plan = plan_for(
            (height, width, channels),
            picture.pixels.itemsize,
            self.engine,
            self.settings.budget,
            self.settings.self_ensemble,
            self.style.bytes_a_pixel,
        )
        target = "standard output" if self.job.target is None else str(self.job.target)
        self._say(
            f"{self.job.name} {width}x{height} -> {target} {scale * width}x{scale * height}: "
            f"{_described(plan, height, width)}, at most {size_text(plan.peak)} of {size_text(self.settings.budget)}"
        )
        for note in notes:
            self._say(f"  {note}")
        listener = Listener(self._progress, lambda message: self._say(f"  warning: {message}", warning=True))
        result = upscale_pixels(picture.pixels, self.engine, plan, self.settings.self_ensemble, listener)
        comparison = self._comparison(picture, result) if self.settings.compare else None
        finished = Picture(result.pixels, picture.icc, picture.dpi, picture.exif)
        del picture
        finished = fitting(finished, self.style, scale * height, scale * width)
        self._write(finished, self.job.target, self.style, result.plan)
        if comparison is not None and self.job.comparison is not None:
            self._write(comparison, self.job.comparison, self.settings.styles["png"], result.plan)
            self._say(f"  {self.job.comparison}: bicubic on the left, {self.engine.name} on the right")

    def _read(self) -> bytes:
        if self.job.source is None:
            limit = _BYTES_A_PIXEL * self.settings.max_pixels + _HEADERS
            data = sys.stdin.buffer.read(limit + 1)
            if len(data) > limit:
                raise PictureError(f"more than {limit:,} bytes, which --max-pixels {self.settings.max_pixels} allows")
            return data
        if not self.job.source.is_file():
            raise PictureError("not a file" if self.job.source.exists() else "a link to nothing")
        return self.job.source.read_bytes()

    def _write(self, picture: Picture, target: Path | None, style: Style, plan: Plan) -> None:
        software = self._software(plan)
        if target is None:
            buffer = io.BytesIO()
            write(buffer, picture, style, software)
            sys.stdout.buffer.write(buffer.getbuffer())
            sys.stdout.buffer.flush()
            return
        with in_place_of(target, self.settings.overwrite) as file:
            write(file, picture, style, software)

    def _software(self, plan: Plan) -> str:
        """What the result's metadata says; ASCII, as EXIF wants it."""
        settings = {
            "model": self.engine.name,
            "scale": self.engine.scale,
            "plan": plan,
            "memory": self.settings.memory,
            "dtype": self.engine.dtype,
            "self_ensemble": "yes" if self.settings.self_ensemble else "no",
        }
        words = "; ".join(f"{key}={value}" for key, value in settings.items())
        return f"han_arch {__version__} upscale; {words}".encode("ascii", "backslashreplace").decode()

    def _comparison(self, picture: Picture, result: Result) -> Picture:
        """Bicubic and result side by side; of a large one the middle."""
        scale = self.engine.scale
        rows, columns = (_middle(side, COMPARED_SIDE // scale) for side in picture.pixels.shape[:2])
        part = picture.pixels[rows, columns]
        size = (scale * part.shape[1], scale * part.shape[0])
        enlarged = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_CUBIC)
        enlarged = enlarged.reshape(size[1], size[0], -1)
        place = (slice(scale * rows.start, scale * rows.stop), slice(scale * columns.start, scale * columns.stop))
        return Picture(np.concatenate([enlarged, result.pixels[place]], axis=1), picture.icc, picture.dpi)

    def _progress(self, done: int, total: int) -> None:
        self.own.total = total
        self.own.update(done - self.own.n)
        self.bar.update(self.start + self.size * done // total - self.bar.n)

    def _say(self, message: str, warning: bool = False) -> None:
        if self.job.target is not None and not warning:
            tqdm.write(message, file=sys.stdout)
        else:
            tqdm.write(message, file=sys.stderr)


def _middle(side: int, most: int) -> slice:
    start = max(0, (side - most) // 2)
    return slice(start, min(side, start + most))


def _described(plan: Plan, height: int, width: int) -> str:
    words = {"full": "the whole image at once", "strips": "the whole image, its tail in strips"}
    if plan.kind in words:
        return f"{plan.kind} ({words[plan.kind]})"
    rows, columns = (-(-side // plan.tile) for side in (height, width))
    return f"{plan} ({columns}x{rows} tiles, each with {plan.overlap} pixels of its neighbours)"
