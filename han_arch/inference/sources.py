"""Find the images that `basicsr upscale` enlarges, and keep a record of files and folders that it leaves out."""

import glob
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from han_arch.images.formats import FORMATS, SUFFIXES, listed
from han_arch.images.signatures import START, kind_of

STREAM = "-"  # standard input or output


@dataclass
class Found:
    """What `find_images` found.

    Attributes:
        images: pairs (source, place). A source of None is standard input. The place is a path relative to the output
            folder.
        left_out: reason -> images and folders that were left out for this reason. Someone may miss them.
        skipped: reason -> files and links that were skipped on purpose, such as texts.
    """

    images: list[tuple[Path | None, Path]] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    skipped: dict[str, list[Path]] = field(default_factory=dict)

    def report(self) -> list[str]:
        """Return one line for each reason: how many files were left out, with their suffixes and the first name."""
        return [
            f"{word} {_counted(paths)}: {reason}"
            for word, record in (("left out", self.left_out), ("skipped", self.skipped))
            for reason, paths in record.items()
        ]


def find_images(paths: list[str], out: Path | None) -> Found:
    """Find the images in `paths`, each once.

    A path is a file, a folder, a pattern such as "photos/*.jpg", or "-" for standard input. From a folder and its
    subfolders, all image files are used, except hidden files. Links to folders and the output folder `out` are skipped.

    Raises:
        FileNotFoundError: a path does not exist.
        OSError: the system cannot list a folder in `paths`.
    """
    found = Found()
    for path in paths:
        if path == STREAM:
            found.images.append((None, Path("stdin")))
            continue
        matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
        if not matches:
            raise FileNotFoundError(f"no such file or folder: {path}")
        for match in map(Path, matches):
            if match.is_dir():
                os.listdir(match)  # raises an error if the folder cannot be read
                for file in _files_below(match, out, found):
                    _sort(file, file.relative_to(match), found)
            elif path == str(match):
                found.images.append((match, Path(match.name)))
            else:
                _sort(match, Path(match.name), found)
    found.images = list(dict.fromkeys(found.images))
    return found


def _files_below(folder: Path, out: Path | None, found: Found) -> Iterator[Path]:
    own = None if out is None or os.path.realpath(out) == os.path.realpath(folder) else os.path.realpath(out)

    def unreadable(error: OSError) -> None:
        found.left_out.setdefault(f"cannot list the folder: {error.strerror}", []).append(Path(error.filename))

    for place, folders, files in os.walk(folder, onerror=unreadable):
        below = [Path(place, name) for name in sorted(folders) if name[0] != "."]
        below = [path for path in below if os.path.realpath(path) != own]
        if links := [path for path in below if path.is_symlink()]:
            found.skipped.setdefault("a link to a folder; pass it as an argument", []).extend(links)
        folders[:] = [path.name for path in below]
        yield from (Path(place, name) for name in sorted(files) if name[0] != ".")


def _sort(file: Path, place: Path, found: Found) -> None:
    """Add a file to the images, or to the record of files that are left out."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        found.images.append((file, place))
        return
    kind = _kind(file)
    if kind is None:
        found.skipped.setdefault("not an image", []).append(file)
        return
    supported = next((form for form in FORMATS.values() if form.label == kind), None)
    if supported:
        reason = f"{kind} content, but another suffix; rename to {supported.suffixes[0]}"
    else:
        reason = f"{kind} is not supported; convert to {listed(form.label for form in FORMATS.values())}"
    found.left_out.setdefault(reason, []).append(file)


def _kind(file: Path) -> str | None:
    try:
        if not file.is_file():  # opening a named pipe would block
            return None
        with file.open("rb") as stream:
            start = stream.read(START)
    except OSError:
        start = b""
    return kind_of(start, file.suffix)


def _counted(paths: list[Path]) -> str:
    if len(paths) == 1:
        return str(paths[0])
    suffixes = Counter(path.suffix or "without suffix" for path in paths).most_common(5)
    parts = ", ".join(f"{count} {suffix}" for suffix, count in suffixes)
    return f"{len(paths)} ({parts}; first: {paths[0]})"
