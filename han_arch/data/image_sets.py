"""The images of a folder or an LMDB: prepared sets as they are found, and HR folders checked before long work."""

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from han_arch.data.parallel import WorkerDied, run_apart, work_through
from han_arch.data.stores import RECORD, LmdbFault, lmdb_keys, lmdb_value
from han_arch.errors import UserError
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image, list_files

META_LINE = re.compile(r"([^.\s]+)\.png \((\d+),(\d+),(\d+)\) \d+")  # key, height, width, channels
GREY_POLICIES = ("refuse", "keep", "rgb")


@dataclass(frozen=True)
class ImageRef:
    """The place of one image's bytes: a file in a folder, or a key in an LMDB."""

    folder: Path
    name: str
    in_lmdb: bool

    def read(self) -> bytes:
        """Return the image file's bytes; OSError or LmdbFault if they cannot be read."""
        return lmdb_value(self.folder, self.name) if self.in_lmdb else (self.folder / self.name).read_bytes()

    def __str__(self) -> str:
        return f"{self.folder}: {self.name}"


@dataclass
class ImageSet:
    """The images of a folder or LMDB.

    Attributes:
        path: the folder or LMDB.
        images: by stem or key.
        shapes: (height, width, channels) by key, from an LMDB's meta_info.txt; empty for a folder.
        faults: faults of the set as a whole, one line each.
    """

    path: Path
    images: dict[str, ImageRef] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def load_set(path: Path) -> ImageSet:
    """List a folder or an LMDB (a name in .lmdb, or a folder with a data.mdb); the result holds the faults."""
    images = ImageSet(path)
    if not path.is_dir():
        images.faults.append(f"{path}: no such folder")
        return images
    if path.name.endswith(".partial"):
        images.faults.append(f"{path}: not finished; run the same basicsr data prepare again")
    if path.suffix == ".lmdb" or (path / "data.mdb").exists():
        _load_lmdb(images)
    else:
        _load_folder(images)
    wanted = None
    try:
        wanted = dict(json.loads((path / RECORD).read_text("utf-8"))).get("count")
    except FileNotFoundError:
        pass  # not made by basicsr data prepare
    except (ValueError, TypeError):
        images.faults.append(f"{path / RECORD} is damaged")
    if wanted is not None and wanted != len(images.images):
        images.faults.append(f"{path}: {len(images.images)} images; {wanted} were made")
    elif not images.images and not images.faults:
        images.faults.append(f"{path}: no image")
    return images


def _load_folder(images: ImageSet) -> None:
    for file in list_files(images.path):
        if file.stem in images.images:
            images.faults.append(f"{file}: same name as {images.images[file.stem].name} but for the extension")
        images.images[file.stem] = ImageRef(images.path, file.name, in_lmdb=False)


def _load_lmdb(images: ImageSet) -> None:
    path = images.path
    if path.suffix != ".lmdb":
        images.faults.append(f"{path}: BasicSR takes only folders with names in .lmdb for LMDBs")
    try:
        # In a separate process: garbage in LMDB's pages can crash the process that reads them.
        keys = run_apart(lmdb_keys, path)
    except LmdbFault as fault:
        images.faults.append(str(fault))
        return
    except WorkerDied:
        images.faults.append(f"{path}: reading its keys crashed the process; data.mdb is damaged")
        return
    images.images = {key: ImageRef(path, key, in_lmdb=True) for key in keys}
    if not (path / "meta_info.txt").is_file():
        images.faults.append(f"{path}: no meta_info.txt; BasicSR reads the keys from it")
        return
    faults = []
    for number, line in enumerate((path / "meta_info.txt").read_text("utf-8", "replace").splitlines(), 1):
        match = META_LINE.fullmatch(line)
        if match is None:
            faults.append(f"meta_info.txt line {number} is not 'KEY.png (height,width,channels) level': {line!r}")
            continue
        key, *shape = match.groups()
        if key in images.shapes:
            faults.append(f"meta_info.txt names {key} twice")
        images.shapes[key] = tuple(map(int, shape))
    faults += [f"key {key} is in meta_info.txt and not in the LMDB" for key in images.shapes.keys() - images.images]
    faults += [f"key {key} is in the LMDB and not in meta_info.txt" for key in images.images.keys() - images.shapes]
    images.faults += [f"{path}: {fault}" for fault in sorted(faults)]


@dataclass(frozen=True)
class Source:
    """One checked HR image: its file, its sides in pixels, and the SHA-256 of the file."""

    path: Path
    height: int
    width: int
    sha256: str


def check_sources(folder: Path, grey: str, min_side: int, workers: int) -> list[Source]:
    """Decode every file of a folder of HR images; return them in the order of their names.

    Args:
        folder: holds the images themselves; hidden files are skipped, sub-folders are not searched.
        grey: one of `GREY_POLICIES`: a grey file is an error, stays grey, or becomes three equal channels.
        min_side: the shortest side in pixels that is accepted: the training patch.
        workers: processes.

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
    problems, sources = _name_problems(paths), []
    check = partial(_check, grey=grey, min_side=min_side)
    for path, result in work_through(check, paths, workers, "check"):
        if isinstance(result, Source):
            sources.append(result)
        else:
            problems[path].append(result)
    if problems:
        lines = [f"  {path.name}: {'; '.join(problems[path])}" for path in sorted(problems)]
        raise UserError(f"{len(problems)} of {len(paths)} files in {folder} cannot be used:\n" + "\n".join(lines))
    return sorted(sources, key=lambda source: source.path)


def _name_problems(paths: list[Path]) -> defaultdict[Path, list[str]]:
    problems: defaultdict[Path, list[str]] = defaultdict(list)
    first_of: dict[str, Path] = {}
    for path in paths:
        if "." in path.stem:
            problems[path].append("a dot in the name (BasicSR cuts LMDB keys at the first dot); rename it")
        if not path.stem.isascii() or any(letter.isspace() for letter in path.stem):
            problems[path].append("a space or a letter beyond ASCII in the name (BasicSR's keys have none); rename it")
        first = first_of.setdefault(path.stem, path)
        if first != path:
            problems[path].append(f"same name as {first.name} but for the extension; rename one")
    return problems


def _check(path: Path, grey: str, min_side: int) -> Source | str:
    data = path.read_bytes()
    try:
        pixels = decode_image(data)
    except ImageError as error:
        return str(error)
    height, width = pixels.shape[:2]
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        return "has an alpha channel; flatten it to RGB"
    if pixels.ndim == 2 and grey == "refuse":
        return "grey; --grey rgb takes it as three equal channels"
    if min(height, width) < min_side:
        return f"{width}x{height} is smaller than the {min_side} pixels of a training patch (--gt-size)"
    return Source(path, height, width, hashlib.sha256(data).hexdigest())
