"""Plan the inputs and outputs of `basicsr upscale`: one job for each image. Conflicts stop before any work starts."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from han_arch.errors import UserError
from han_arch.files import check_writable
from han_arch.images.formats import FORMATS, SUFFIXES, WRITTEN_SUFFIXES, ImageFormat, written_format
from han_arch.inference.sources import STREAM, Found, find_images

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

    @property
    def files(self) -> list[Path]:
        """The paths of the files that this job writes."""
        return [path for path in (self.target, self.comparison) if path is not None]


def collect(paths: list[str], outputs: Outputs) -> tuple[list[UpscaleJob], Found]:
    """Return one job for each image in `paths`, and what `find_images` found, with the files that it left out.

    The list of jobs is empty if `skip_existing` skips all images. The output folder gets the subfolders of the sources.

    Raises:
        FileNotFoundError: a path does not exist.
        UserError: no image was found; `out` or `suffix` is not valid; an upscaled file cannot be written; or it would
            replace a source, another upscaled file or an existing file.
    """
    out = outputs.out
    if Path(outputs.suffix).name != outputs.suffix:
        raise UserError(f"--suffix must be part of a file name, such as _x4; got {outputs.suffix!r}")
    if out == STREAM and (outputs.compare or sys.stdout.isatty()):
        raise UserError("with '-o -', redirect standard output to a file or a pipe, and do not pass --compare")
    target = None if out == STREAM else Path(out)
    found = find_images(paths, target)
    if not found.images:
        lines = [f"found no images in {', '.join(paths)}; file names must end in {' '.join(SUFFIXES)}", *found.report()]
        raise UserError("\n  ".join(lines))
    given = FORMATS[outputs.format] if outputs.format else None
    if out == STREAM or _names_a_file(out):
        if len(found.images) > 1:
            raise UserError(f"cannot write {len(found.images)} images to one file ({out}); pass a folder after -o")
        ((source, _),) = found.images
        jobs = [UpscaleJob(source, target, given or written_format(Path(out)) or FORMATS["png"], outputs.compare)]
    else:
        jobs = [_into_folder(source, place, given, outputs) for source, place in found.images]
    _check_targets(jobs)
    if outputs.skip_existing:
        jobs = [job for job in jobs if job.target is None or not os.path.lexists(job.target)]
    there = [file for job in jobs for file in job.files if os.path.lexists(file)]
    if there and not outputs.overwrite:
        more = f" and {len(there) - 1} more files" if there[1:] else ""
        raise UserError(f"{there[0]}{more} would be overwritten; pass --overwrite or --skip-existing")
    if folders := [file for file in there if os.path.isdir(file)]:
        raise UserError(f"{folders[0]} is a folder, but the upscaled image needs this name; move the folder")
    check_writable(file for job in jobs for file in job.files)
    return jobs, found


def _names_a_file(out: str) -> bool:
    if os.path.isdir(out) or out.endswith(("/", os.sep)):
        return False
    named = written_format(Path(out)) is not None
    if os.path.isfile(out) and not named:
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
    sources = {_identity(job.source) for job in jobs if job.source is not None}
    for job in jobs:
        for file in job.files:
            key = _real(file).casefold()  # some file systems do not distinguish upper and lower case
            if key in taken:
                raise UserError(f"{taken[key].name} and {job.name} would both become {file}; use two output folders")
            taken[key] = job
            if _identity(file) in sources:
                raise UserError(f"{file} would replace a source image; pass another output folder or --suffix _x4")
    for key, job in taken.items():
        if inside := next((taken[str(folder)] for folder in Path(key).parents if str(folder) in taken), None):
            raise UserError(f"{inside.target} would be a file and the folder of {job.target}; use two output folders")


def _identity(path: Path) -> object:
    """Return a value that is the same for all names of a file, such as names in upper and lower case."""
    try:
        status = os.stat(path)
        return status.st_dev, status.st_ino
    except OSError:  # there is no such file
        return _real(path)
