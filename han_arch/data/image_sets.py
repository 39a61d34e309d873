"""List the images of a folder or an LMDB (`load_set`), and check HR images before `prepare` uses them."""

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

META_LINE = re.compile(r"([^.\s]+)\.png \((\d+),(\d+),(\d+)\) \d+")  # groups: key, height, width, channels
GREY_POLICIES = ("refuse", "keep", "rgb")


@dataclass(frozen=True)
class ImageRef:
    """The location of one image: a file in a folder, or a key in an LMDB."""

    folder: Path
    name: str
    in_lmdb: bool

    def read(self) -> bytes:
        """Return the encoded image as bytes; raise OSError or LmdbFault if they cannot be read."""
        return lmdb_value(self.folder, self.name) if self.in_lmdb else (self.folder / self.name).read_bytes()

    def __str__(self) -> str:
        return f"{self.folder}: {self.name}"


@dataclass
class ImageSet:
    """The list of images in a folder or an LMDB.

    Attributes:
        path: the folder or LMDB.
        images: locations of the images, keyed by file name without extension, or by LMDB key.
        shapes: LMDB key -> (height, width, channels), read from the LMDB's meta_info.txt. Empty for a folder.
        faults: faults of the folder or LMDB itself, not of single images; one line for each.
    """

    path: Path
    images: dict[str, ImageRef] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def load_set(path: Path) -> ImageSet:
    """List the images of a folder or an LMDB; the returned `ImageSet` also lists the faults.

    A folder counts as an LMDB if its name ends in .lmdb or if it contains a data.mdb.
    """
    images = ImageSet(path)
    if not path.is_dir():
        images.faults.append(f"{path} does not exist or is not a folder")
        return images
    if path.name.endswith(".partial"):
        images.faults.append(f"{path} is not finished; run the basicsr data prepare command that started it again")
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
        images.faults.append(f"{path / RECORD} is damaged; remove {path}, then run basicsr data prepare again")
    if wanted is not None and wanted != len(images.images):
        images.faults.append(f"{path} has {len(images.images)} images, but basicsr data prepare made {wanted}")
    elif not images.images and not images.faults:
        images.faults.append(f"{path} contains no image")
    return images


def _load_folder(images: ImageSet) -> None:
    for file in list_files(images.path):
        if file.stem in images.images:
            images.faults.append(
                f"{file} has the same name as {images.images[file.stem].name} except for the extension"
            )
        images.images[file.stem] = ImageRef(images.path, file.name, in_lmdb=False)


def _load_lmdb(images: ImageSet) -> None:
    path = images.path
    if path.suffix != ".lmdb":
        images.faults.append(f"{path}: BasicSR reads an LMDB only if its folder name ends in .lmdb; rename the folder")
    try:
        # Read the keys in a separate process, because damaged LMDB pages can crash the process that reads them.
        keys = run_apart(lmdb_keys, path)
    except LmdbFault as fault:
        images.faults.append(str(fault))
        return
    except WorkerDied:
        images.faults.append(f"{path}: data.mdb is damaged; a worker process crashed while it read the keys")
        return
    images.images = {key: ImageRef(path, key, in_lmdb=True) for key in keys}
    if not (path / "meta_info.txt").is_file():
        images.faults.append(f"{path} has no meta_info.txt, but BasicSR reads the keys from this file")
        return
    faults = []
    for number, line in enumerate((path / "meta_info.txt").read_text("utf-8", "replace").splitlines(), 1):
        match = META_LINE.fullmatch(line)
        if match is None:
            faults.append(
                f"line {number} of meta_info.txt must be 'KEY.png (height,width,channels) LEVEL'; got {line!r}"
            )
            continue
        key, *shape = match.groups()
        if key in images.shapes:
            faults.append(f"meta_info.txt contains key {key} twice")
        images.shapes[key] = tuple(map(int, shape))
    faults += [f"key {key} is in meta_info.txt but not in the LMDB" for key in images.shapes.keys() - images.images]
    faults += [f"key {key} is in the LMDB but not in meta_info.txt" for key in images.images.keys() - images.shapes]
    images.faults += [f"{path}: {fault}" for fault in sorted(faults)]


@dataclass(frozen=True)
class Source:
    """One checked HR image: its file, its height and width in pixels, and the SHA-256 of the file."""

    path: Path
    height: int
    width: int
    sha256: str


def check_sources(folder: Path, grey: str, min_side: int, workers: int) -> list[Source]:
    """Check all HR images in a folder by decoding them; return the images sorted by file name.

    Args:
        folder: folder with the HR images; hidden files and sub-folders are skipped.
        grey: how to treat grey files, one of `GREY_POLICIES`: "refuse" them with an error, "keep" them grey, or convert
            them to three equal channels ("rgb").
        min_side: minimum height and width in pixels, which is the side of a training patch.
        workers: number of worker processes.

    Raises:
        UserError: the folder does not exist, contains no image, or contains unusable files. The message has one line
            for each unusable file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is not a folder")
    paths = list_files(folder)
    if not paths:
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"; it contains the folders {', '.join(inside[:5])}; pass the folder with the images" if inside else ""
        raise UserError(f"{folder} contains no image{hint}")
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
            problems[path].append(
                "the name has more than one dot (BasicSR cuts LMDB keys at the first dot); rename the file"
            )
        if not path.stem.isascii() or any(letter.isspace() for letter in path.stem):
            problems[path].append(
                "the name has a space or a non-ASCII letter (not allowed in LMDB keys of BasicSR); rename the file"
            )
        first = first_of.setdefault(path.stem, path)
        if first != path:
            problems[path].append(f"same name as {first.name} except for the extension; rename one of the two files")
    return problems


def _check(path: Path, grey: str, min_side: int) -> Source | str:
    data = path.read_bytes()
    try:
        pixels = decode_image(data)
    except ImageError as error:
        return str(error)
    height, width = pixels.shape[:2]
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        return "has an alpha channel; convert the image to RGB"
    if pixels.ndim == 2 and grey == "refuse":
        return "grey image; pass --grey rgb to convert it to three equal channels, or --grey keep to keep it"
    if min(height, width) < min_side:
        patch = f"{min_side}x{min_side} pixels"
        return f"{width}x{height} is smaller than a training patch of {patch}; remove the file or lower --gt-size"
    return Source(path, height, width, hashlib.sha256(data).hexdigest())
