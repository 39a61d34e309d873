"""Upscale image files. `collect` lists the sources and checks the output files; `upscale_files` does the work."""

import glob
import io
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.files import replacing
from han_arch.images.formats import FORMATS, SUFFIXES, WRITTEN_SUFFIXES, ImageFormat, written_format
from han_arch.images.picture import ImageError, Picture
from han_arch.images.read import MAX_PIXELS, read_picture, read_size
from han_arch.images.write import WriteOptions
from han_arch.inference.engines import Engine
from han_arch.inference.pixels import Listener, NotFinite, side_by_side, upscale_pixels
from han_arch.inference.plan import PlanRequest, choose, size_text
from han_arch.version import __version__

STREAM = "-"  # standard input or output
_real = os.path.realpath  # resolves links; unlike Path.resolve, it accepts circular links


@dataclass(frozen=True)
class Outputs:
    """Settings for output files: their places and names, and what to do with existing files.

    Attributes:
        out: output folder, or "-" for standard output. For a single image, `out` can be a file name such as new.png.
        format: name of a format in `WRITTEN`. None: the suffix of the file name `out` selects the format. In an output
            folder, a file has its source's format, or PNG if that format is read-only. Standard output is PNG.
        suffix: text to append to the name of each file in an output folder, such as "_x4".
        compare: whether to also write a PNG file that compares the output with bicubic interpolation.
        skip_existing: whether to skip images that already have an upscaled file.
    """

    out: str
    format: str | None = None
    suffix: str = ""
    compare: bool = False
    overwrite: bool = False
    skip_existing: bool = False


@dataclass(frozen=True)
class UpscaleJob:
    """One image to upscale. A source of None is standard input; a target of None is standard output."""

    source: Path | None
    target: Path | None
    format: ImageFormat
    compare: bool = False

    @property
    def name(self) -> str:
        """The name of the source in messages: its path, or "standard input"."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def comparison(self) -> Path | None:
        """The path of the comparison file; None if no comparison is written."""
        return self.target.with_name(f"{self.target.stem}_compare.png") if self.target and self.compare else None


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


def collect(paths: list[str], outputs: Outputs) -> list[UpscaleJob]:
    """Return one job for each image in `paths`. The list is empty if `skip_existing` skips all images.

    A path is a file, a folder, a pattern such as "photos/*.jpg", or "-" for standard input. From a folder and its
    subfolders, all image files are used, except hidden files. Links to folders and the output folder itself are
    skipped. The output folder gets the same subfolders.

    Raises:
        FileNotFoundError: a path does not exist.
        UserError: no image was found; `out` or `suffix` is not valid; or an upscaled file would replace a source,
            another upscaled file or an existing file.
    """
    out = outputs.out
    if Path(outputs.suffix).name != outputs.suffix:
        raise UserError(f"--suffix must be part of a file name, such as _x4; got {outputs.suffix!r}")
    if out == STREAM and (outputs.compare or sys.stdout.isatty()):
        raise UserError("with '-o -', redirect standard output to a file or a pipe, and do not pass --compare")
    target = None if out == STREAM else Path(out)
    found = list(dict.fromkeys(pair for path in paths for pair in _sources(path, target)))
    if not found:
        raise UserError(f"found no images in {', '.join(paths)}; file names must end in {' '.join(SUFFIXES)}")
    given = FORMATS[outputs.format] if outputs.format else None
    if out == STREAM or _names_a_file(out):
        if len(found) > 1:
            raise UserError(f"cannot write {len(found)} images to one file ({out}); pass a folder after -o")
        ((source, _),) = found
        jobs = [UpscaleJob(source, target, given or written_format(Path(out)) or FORMATS["png"], outputs.compare)]
    else:
        jobs = [_into_folder(source, place, given, outputs) for source, place in found]
    _check_targets(jobs)
    if outputs.skip_existing:
        jobs = [job for job in jobs if job.target is None or not os.path.lexists(job.target)]
    there = [file for job in jobs for file in (job.target, job.comparison) if file and os.path.lexists(file)]
    if there and not outputs.overwrite:
        more = f" and {len(there) - 1} more files" if there[1:] else ""
        raise UserError(f"{there[0]}{more} would be overwritten; pass --overwrite or --skip-existing")
    return jobs


def _sources(path: str, out: Path | None) -> Iterator[tuple[Path | None, Path]]:
    """Yield pairs (source, place) for the images in `path`. The place is a path relative to the output folder."""
    if path == STREAM:
        yield None, Path("stdin")
        return
    matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
    if not matches:
        raise FileNotFoundError(f"no such file or folder: {path}")
    for match in map(Path, matches):
        if match.is_dir():
            yield from ((file, file.relative_to(match)) for file in _images_below(match, out))
        elif path == str(match) or match.suffix.lower() in SUFFIXES:
            yield match, Path(match.name)


def _images_below(folder: Path, out: Path | None) -> Iterator[Path]:
    own = None if out is None or _real(out) == _real(folder) else _real(out)
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and _real(Path(place, name)) != own)
        images = (Path(place, name) for name in sorted(files) if name[0] != ".")
        yield from (path for path in images if path.suffix.lower() in SUFFIXES)


def _names_a_file(out: str) -> bool:
    if Path(out).is_dir() or out.endswith(("/", os.sep)):
        return False
    named = written_format(Path(out)) is not None
    if Path(out).is_file() and not named:
        raise UserError(f"{out} is a file; pass a folder, or a file name that ends in {' '.join(WRITTEN_SUFFIXES)}")
    return named  # "new.png" means a folder only if a folder of this name exists


def _into_folder(source: Path | None, place: Path, given: ImageFormat | None, outputs: Outputs) -> UpscaleJob:
    own = written_format(place)
    chosen = given or own or FORMATS["png"]
    ending = place.suffix if chosen is own else chosen.suffixes[0]
    name = place.with_name(f"{place.stem}{outputs.suffix}{ending}")
    return UpscaleJob(source, Path(outputs.out) / name, chosen, outputs.compare)


def _check_targets(jobs: list[UpscaleJob]) -> None:
    taken: dict[str, UpscaleJob] = {}
    sources = {_real(job.source) for job in jobs if job.source is not None}
    for job in jobs:
        if job.target is None:
            continue
        key = _real(job.target).casefold()  # some file systems do not distinguish upper and lower case
        if key in taken:
            raise UserError(f"{taken[key].name} and {job.name} would both become {job.target}; use two output folders")
        taken[key] = job
        if _real(job.target) in sources:
            raise UserError(f"{job.target} would replace a source image; pass another output folder or --suffix _x4")


def upscale_files(jobs: list[UpscaleJob], engine: Engine, settings: UpscaleSettings) -> int:
    """Upscale the images of all jobs in order. Show progress, print each error, and return the number of failures."""
    sizes = [_pixels(job, settings.max_pixels) for job in jobs]
    failed = 0
    progress_bar = partial(tqdm, unit="pixel", unit_scale=True, dynamic_ncols=True)
    with progress_bar(total=sum(sizes), desc="all images") as bar:
        for job, size in zip(jobs, sizes, strict=True):
            with progress_bar(desc=Path(job.name).name, leave=False) as own:
                try:
                    _upscale(job, engine, settings, _updating(bar, own, size))
                except (ImageError, NotFinite, UserError, OSError, MemoryError) as error:
                    failed += 1
                    reason = "not enough memory to read or write the image" if isinstance(error, MemoryError) else error
                    tqdm.write(f"basicsr upscale: {job.name}: {reason}", file=sys.stderr)
    return failed


def _pixels(job: UpscaleJob, max_pixels: int) -> int:
    """Return the number of pixels of a job's source, for the progress bar; 0 if unknown."""
    if job.source is None or not job.source.is_file():  # opening a named pipe would block
        return 0
    try:
        with job.source.open("rb") as file:
            return math.prod(read_size(file, max_pixels))
    except (ImageError, OSError):
        return 0


def _updating(bar: "tqdm[None]", own: "tqdm[None]", size: int) -> Callable[[int, int], None]:
    """Return a callback that updates two progress bars: `own`, for one image of `size` pixels, and `bar`, for all."""
    start = bar.n

    def update(done: int, total: int) -> None:
        own.total = total
        own.update(done - own.n)
        bar.update(start + size * done // total - bar.n)

    return update


def _upscale(job: UpscaleJob, engine: Engine, settings: UpscaleSettings, progress: Callable[[int, int], None]) -> None:
    say = partial(tqdm.write, file=sys.stderr if job.target is None else sys.stdout)
    scale, ensemble = engine.scale, settings.self_ensemble
    picture = read_picture(_read(job.source, settings.max_pixels), settings.max_pixels)
    height, width = picture.pixels.shape[:2]
    one_pixel = replace(picture, pixels=picture.pixels[:1, :1].copy())
    notes = job.format.fit(one_pixel, scale * height, scale * width).notes
    writing = job.format.bytes_a_pixel(settings.write)
    shape, itemsize = picture.pixels.shape, picture.pixels.itemsize
    plan = choose(PlanRequest(shape, itemsize, engine.cost, settings.budget, ensemble, writing))
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


def _read(source: Path | None, max_pixels: int) -> bytes:
    if source is None:
        limit = 8 * max_pixels + (1 << 24)  # bytes of uncompressed 16-bit RGBA and file headers
        data = sys.stdin.buffer.read(limit + 1)
        if len(data) > limit:
            found = f"the image has more than {limit:,} bytes, too many for {max_pixels:,} pixels"
            raise ImageError(f"{found}; pass a larger --max-pixels")
        return data
    if not source.is_file():
        raise ImageError("not a regular file" if source.exists() else "a link to a missing file")
    return source.read_bytes()


def _write(
    picture: Picture, target: Path | None, image_format: ImageFormat, settings: UpscaleSettings, software: str
) -> None:
    software = software.encode("ascii", "backslashreplace").decode()  # EXIF allows only ASCII
    if target is None:
        buffer = io.BytesIO()
        image_format.write(buffer, picture, settings.write, software)
        sys.stdout.buffer.write(buffer.getbuffer())
        sys.stdout.buffer.flush()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target, overwrite=settings.overwrite) as file:
        image_format.write(file, picture, settings.write, software)
