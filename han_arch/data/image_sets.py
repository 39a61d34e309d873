"""List the images of a folder or an LMDB."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from han_arch.data.parallel import WorkerDied, run_apart
from han_arch.data.stores import RECORD, LmdbFault, lmdb_keys, lmdb_value
from han_arch.files import read_mapping
from han_arch.images.read import list_files

META_LINE = re.compile(r"([^.\s]+)\.png \((\d+),(\d+),(\d+)\) \d+")  # groups: key, height, width, channels


@dataclass(frozen=True)
class ImageRef:
    """The location of one image: a file in a folder, or a key in an LMDB."""

    folder: Path
    name: str
    in_lmdb: bool

    def read(self) -> bytes:
        """Return the encoded image as bytes; raise OSError or LmdbFault if this fails."""
        return lmdb_value(self.folder, self.name) if self.in_lmdb else (self.folder / self.name).read_bytes()

    def __str__(self) -> str:
        return f"{self.folder}: {self.name}"


@dataclass
class ImageSet:
    """The list of images in a folder or an LMDB."""

    path: Path
    images: dict[str, ImageRef] = field(default_factory=dict)  # file name without extension, or LMDB key -> location
    # LMDB key -> (height, width, channels), read from the LMDB's meta_info.txt. Empty for a folder.
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # faults of the folder or LMDB itself, not of single images


def load_set(path: Path, *, apart: bool = True) -> ImageSet:
    """List the images and the faults of a folder or an LMDB. Faults, such as a missing folder, raise no exception.

    A folder counts as an LMDB if its name ends in .lmdb or if it contains a data.mdb.

    Args:
        apart: read LMDBs in a separate process, because damaged LMDB pages can crash the process that reads them.
    """
    images = ImageSet(path)
    if not path.is_dir():
        images.faults.append(f"{path} does not exist or is not a folder")
        return images
    if path.name.endswith(".partial"):
        images.faults.append(f"{path} is not finished; to finish it, run the same basicsr data prepare command again")
    if path.suffix == ".lmdb" or (path / "data.mdb").exists():
        _load_lmdb(images, apart)
    else:
        _load_folder(images)
    wanted = None
    try:
        wanted = read_mapping(path / RECORD).get("count")
    except FileNotFoundError:
        pass  # not made by basicsr data prepare
    except ValueError:
        images.faults.append(f"{path / RECORD} is damaged; remove {path}, then run basicsr data prepare again")
    if wanted is not None and wanted != len(images.images):
        images.faults.append(f"{path} has {len(images.images)} images, but basicsr data prepare made {wanted}")
    elif not images.images and not images.faults:
        images.faults.append(f"{path} contains no image")
    return images


def infer_template(gt_names: Sequence[str], lq_names: Sequence[str]) -> str:
    """Find the template, such as "{}x4", that turns most GT names into LR names."""
    first = min(gt_names)
    known = set(lq_names)
    templates = {"{}"} | {name.replace(first, "{}", 1) for name in lq_names if first in name}
    return max(sorted(templates), key=lambda template: sum(template.replace("{}", name) in known for name in gt_names))


def _load_folder(images: ImageSet) -> None:
    for file in list_files(images.path):
        if file.stem in images.images:
            first = images.images[file.stem].name
            images.faults.append(f"{file} has the same name as {first} except for the extension")
        images.images[file.stem] = ImageRef(images.path, file.name, in_lmdb=False)


def _load_lmdb(images: ImageSet, apart: bool) -> None:
    path = images.path
    if path.suffix != ".lmdb":
        images.faults.append(f"{path}: BasicSR reads an LMDB only if its folder name ends in .lmdb; rename the folder")
    try:
        keys = run_apart(lmdb_keys, path) if apart else lmdb_keys(path)
    except LmdbFault as fault:
        images.faults.append(str(fault))
        return
    except WorkerDied:
        images.faults.append(f"{path}: data.mdb is damaged; the process that read its keys crashed")
        return
    images.images = {key: ImageRef(path, key, in_lmdb=True) for key in keys}
    if not (path / "meta_info.txt").is_file():
        images.faults.append(f"{path} has no meta_info.txt, but BasicSR reads the keys from this file")
        return
    faults = []
    for number, line in enumerate((path / "meta_info.txt").read_text("utf-8", "replace").splitlines(), 1):
        match = META_LINE.fullmatch(line)
        if match is None:
            wanted = "'KEY.png (height,width,channels) LEVEL'"
            faults.append(f"line {number} of meta_info.txt must be {wanted}; got {line!r}")
            continue
        key, *shape = match.groups()
        if key in images.shapes:
            faults.append(f"meta_info.txt contains key {key} twice")
        images.shapes[key] = tuple(map(int, shape))
    faults += [f"key {key} is in meta_info.txt but not in the LMDB" for key in images.shapes.keys() - images.images]
    faults += [f"key {key} is in the LMDB but not in meta_info.txt" for key in images.images.keys() - images.shapes]
    images.faults += [f"{path}: {fault}" for fault in sorted(faults)]
