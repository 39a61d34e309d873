"""Which files are upscaled, and where each result goes: settled, and refused if it cannot be, before work starts."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from han_arch.errors import UserError
from han_arch.images.write import FORMAT_OF, SUFFIXES

STREAM = "-"  # standard input or output
READ_SUFFIXES = (*FORMAT_OF, ".bmp")


@dataclass(frozen=True)
class Job:
    """One image: where from, where to, and the format; None stands for standard input or output."""

    source: Path | None
    target: Path | None
    format: str

    @property
    def name(self) -> str:
        """The source, for messages."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def comparison(self) -> Path | None:
        """Where a comparison of the result with bicubic interpolation goes."""
        return None if self.target is None else self.target.with_name(f"{self.target.stem}_compare.png")


def collect(paths: list[str], out: str, format: str | None, suffix: str = "") -> list[Job]:
    """The jobs of a command line.

    A folder stands for the images in it and below it, by their names' endings, which keep their places below out; links
    to folders are not followed, hidden files and out itself are left out. A pattern such as "photos/*.jpg" that
    the shell has left alone is filled in.

    Args:
        paths: files, folders, patterns, or "-".
        out: a folder; "-"; or, for a single image, a file whose name ends as an image's does.
        format: of the results; None: by out's name, else the source's own (PNG for others).
        suffix: appended to each result's name.

    Raises:
        FileNotFoundError: a path is not there.
        UserError: no images, two results of one name, a result in place of a source, or out does not suit.
    """
    found = [pair for path in paths for pair in _sources(path, Path(out) if out != STREAM else None)]
    found = list(dict.fromkeys(found))
    if not found:
        raise UserError(f"no images in {', '.join(paths)}; wanted names that end in {' '.join(READ_SUFFIXES)}")
    if out == STREAM or _names_a_file(out, paths):
        if len(found) > 1:
            raise UserError(f"{len(found)} images do not go into one file ({out}); wanted a folder after -o")
        target = None if out == STREAM else Path(out)
        jobs = [Job(found[0][0], target, format or FORMAT_OF.get(Path(out).suffix.lower(), "png"))]
    else:
        jobs = [_into_folder(source, place, Path(out), format, suffix) for source, place in found]
    _check_targets(jobs)
    return jobs


def existing(jobs: list[Job], compare: bool) -> list[Path]:
    """What is there already, of the results and, if asked for, their comparisons."""
    targets = [target for job in jobs for target in (job.target, job.comparison if compare else None)]
    return [target for target in targets if target is not None and os.path.lexists(target)]


def _sources(path: str, out: Path | None) -> list[tuple[Path | None, Path]]:
    """Sources, and their places below the output folder."""
    if path == STREAM:
        return [(None, Path("stdin"))]
    matches = [path]
    if not os.path.lexists(path):
        matches = sorted(glob.glob(path, recursive=True))
        if not matches:
            raise FileNotFoundError(f"no such file or folder: {path}")
    pairs: list[tuple[Path | None, Path]] = []
    for match in map(Path, matches):
        if match.is_dir():
            pairs += [(file, file.relative_to(match)) for file in _images_below(match, out)]
        elif path == str(match) or match.suffix.lower() in READ_SUFFIXES:
            pairs.append((match, Path(match.name)))
    return pairs


def _images_below(folder: Path, out: Path | None) -> list[Path]:
    own = None if out is None or _real(out) == _real(folder) else _real(out)
    images = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and _real(Path(place) / name) != own)
        images += [Path(place) / name for name in sorted(files) if name[0] != "."]
    return [path for path in images if path.suffix.lower() in READ_SUFFIXES]


def _names_a_file(out: str, paths: list[str]) -> bool:
    if Path(out).is_dir() or out.endswith(("/", os.sep)):
        return False
    if Path(out).is_file() and Path(out).suffix.lower() not in FORMAT_OF:
        raise UserError(f"{out} is a file; wanted a folder, or a file name that ends in {' '.join(FORMAT_OF)}")
    # "new.png" for a whole folder of images is taken at its word, too: then it is a folder's name only if it exists.
    return Path(out).suffix.lower() in FORMAT_OF


def _into_folder(source: Path | None, place: Path, out: Path, format: str | None, suffix: str) -> Job:
    own = FORMAT_OF.get(place.suffix.lower(), "png")
    chosen = format or own
    ending = place.suffix if chosen == own and place.suffix.lower() in FORMAT_OF else SUFFIXES[chosen]
    return Job(source, out / place.with_name(f"{place.stem}{suffix}{ending}"), chosen)


def _check_targets(jobs: list[Job]) -> None:
    taken: dict[str, Job] = {}
    sources = {_real(job.source) for job in jobs if job.source is not None}
    for job in jobs:
        if job.target is None:
            continue
        key = _real(job.target).casefold()  # some file systems do not tell upper from lower case
        if key in taken:
            raise UserError(
                f"{taken[key].name} and {job.name} would both become {job.target}; give them different folders"
            )
        taken[key] = job
        if _real(job.target) in sources:
            raise UserError(f"{job.target} is itself an image to upscale; choose another folder, or --suffix _x4")


def _real(path: Path) -> str:
    """Without links; unlike Path.resolve it takes links that go in circles."""
    return os.path.realpath(path)
