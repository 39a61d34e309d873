"""The HR images that a data set is made from, all of them checked before long work starts."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.parallel import work_through
from han_arch.errors import UserError
from han_arch.images.strict import ImageError, decode_image, list_files

GREY_POLICIES = ("refuse", "keep", "rgb")


@dataclass(frozen=True)
class Source:
    """One checked HR image: where it lies, its sides in pixels, and the SHA-256 of its file."""

    path: Path
    height: int
    width: int
    sha256: str

    @property
    def stem(self) -> str:
        """The name without extension: the key of everything that is made from the image."""
        return self.path.stem


def load_source(path: Path, grey: str) -> np.ndarray:
    """The pixels of a checked HR file: uint8, (h, w, 3) RGB, or (h, w) for a grey file when `grey` is "keep"."""
    pixels = decode_image(path.read_bytes())
    if pixels.ndim == 2 and grey == "rgb":
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return pixels


def check_sources(folder: Path, grey: str, min_side: int, workers: int) -> list[Source]:
    """Decode every file of a folder of HR images and report all that cannot be used.

    Args:
        folder: holds the images themselves; hidden files are passed over, sub-folders are not searched.
        grey: one of `GREY_POLICIES`: a grey file is an error, stays grey, or becomes three equal channels.
        min_side: the shortest side in pixels that is taken: the training patch.
        workers: processes.

    Returns:
        The images in the order of their names.

    Raises:
        UserError: no folder, no image, or unusable files; the message has one line for each of them.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    paths = list_files(folder)
    if not paths:
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"; it has the folders {', '.join(inside[:5])}: name the one with the images" if inside else ""
        raise UserError(f"no image in {folder}{hint}")
    problems = _name_problems(paths)
    sources = []
    for path, (source, problem) in work_through(partial(_check, grey=grey, min_side=min_side), paths, workers, "check"):
        if source is None:
            problems[path].append(problem)
        else:
            sources.append(source)
    if problems:
        lines = [f"  {path.name}: {'; '.join(problems[path])}" for path in sorted(problems)]
        raise UserError(f"{len(problems)} of {len(paths)} files in {folder} cannot be used:\n" + "\n".join(lines))
    return sorted(sources, key=lambda source: source.path)


def _name_problems(paths: list[Path]) -> defaultdict[Path, list[str]]:
    problems: defaultdict[Path, list[str]] = defaultdict(list)
    stems: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        stems[path.stem].append(path)
        if "." in path.stem:
            problems[path].append("a dot in the name (BasicSR cuts LMDB keys at the first dot); rename it")
        if not path.stem.isascii() or any(letter.isspace() for letter in path.stem):
            problems[path].append("a space or a letter beyond ASCII in the name (BasicSR's keys have none); rename it")
    for same in stems.values():
        for path in same[1:]:
            problems[path].append(f"same name as {same[0].name} but for the extension; rename one")
    return problems


def _check(path: Path, grey: str, min_side: int) -> tuple[Source | None, str]:
    data = path.read_bytes()
    try:
        pixels = decode_image(data)
    except ImageError as error:
        return None, str(error)
    height, width = pixels.shape[:2]
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        return None, "has an alpha channel; flatten it to RGB"
    if pixels.ndim == 2 and grey == "refuse":
        return None, "grey; --grey rgb takes it as three equal channels"
    if min(height, width) < min_side:
        return None, f"{width}x{height} is smaller than the {min_side} pixels of a training patch (--gt-size)"
    return Source(path, height, width, hashlib.sha256(data).hexdigest()), ""
