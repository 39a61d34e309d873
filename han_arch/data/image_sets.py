"""A folder of images or an LMDB, seen alike: names, bytes of each image, and what is wrong with the set as a whole."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from han_arch.data.lmdb_check import LmdbFault
from han_arch.data.lmdb_store import lmdb_keys
from han_arch.data.parallel import WorkerDied, run_apart
from han_arch.data.shared_lmdb import shared_environment
from han_arch.data.stores import RECORD
from han_arch.images.strict import list_files

META_LINE = re.compile(r"(?P<key>[^.\s]+)\.png \((?P<height>\d+),(?P<width>\d+),(?P<channels>\d+)\) \d+")


@dataclass(frozen=True)
class ImageRef:
    """Where the bytes of one image are: a file in a folder, or a key in an LMDB."""

    folder: Path
    name: str
    in_lmdb: bool

    def read(self) -> bytes:
        """The image file's bytes; KeyError, OSError or LmdbFault when they are not there."""
        if not self.in_lmdb:
            return (self.folder / self.name).read_bytes()
        try:
            with shared_environment(self.folder).begin() as transaction:
                data = transaction.get(self.name.encode())
        except lmdb.Error as error:
            raise LmdbFault(f"{self.folder / 'data.mdb'} is damaged: {error}") from error
        if data is None:
            raise KeyError(self.name)
        return bytes(data)

    def __str__(self) -> str:
        return f"{self.folder}: {self.name}"


@dataclass
class ImageSet:
    """The images of a folder or LMDB.

    Attributes:
        path: the folder or LMDB.
        images: by stem or key.
        shapes: (height, width, channels) that an LMDB's meta_info.txt gives, by key; empty for a folder.
        faults: what is wrong with the set as a whole, one line each.
        record: what `basicsr data prepare` noted about how it was made; empty for other sets.
    """

    path: Path
    images: dict[str, ImageRef] = field(default_factory=dict)
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    record: dict[str, object] = field(default_factory=dict)


def load_set(path: Path) -> ImageSet:
    """List a folder or (a name that ends in .lmdb, or a folder with a data.mdb) an LMDB; faults are in the result."""
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
    if (path / RECORD).exists():
        try:
            images.record = dict(json.loads((path / RECORD).read_text("utf-8")))
        except (ValueError, TypeError):
            images.faults.append(f"{path / RECORD} is damaged")
    wanted = images.record.get("count")
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
    if images.path.suffix != ".lmdb":
        images.faults.append(f"{images.path}: BasicSR takes only folders whose names end in .lmdb for LMDBs")
    try:
        # In a process of its own: garbage in LMDB's pages can end the process that reads them.
        keys = run_apart(_keys, images.path)
    except LmdbFault as fault:
        images.faults.append(str(fault))
        return
    except WorkerDied:
        images.faults.append(f"{images.path}: reading its keys ended the process; data.mdb is damaged")
        return
    images.images = {key: ImageRef(images.path, key, in_lmdb=True) for key in keys}
    images.faults += [f"{images.path}: {fault}" for fault in _compare_meta_info(images)]


def _keys(path: Path) -> list[str]:
    try:
        return lmdb_keys(shared_environment(path))
    except lmdb.Error as error:
        raise LmdbFault(f"{path / 'data.mdb'} is damaged: {error}") from error


def _compare_meta_info(images: ImageSet) -> list[str]:
    meta_info = images.path / "meta_info.txt"
    if not meta_info.is_file():
        return ["no meta_info.txt; BasicSR reads the keys from it"]
    faults = []
    for number, line in enumerate(meta_info.read_text("utf-8", "replace").splitlines(), 1):
        match = META_LINE.fullmatch(line)
        if match is None:
            faults.append(f"meta_info.txt line {number} is not 'KEY.png (height,width,channels) level': {line!r}")
            continue
        if match["key"] in images.shapes:
            faults.append(f"meta_info.txt names {match['key']} twice")
        images.shapes[match["key"]] = (int(match["height"]), int(match["width"]), int(match["channels"]))
    faults += [f"key {key} is in meta_info.txt and not in the LMDB" for key in images.shapes.keys() - images.images]
    faults += [f"key {key} is in the LMDB and not in meta_info.txt" for key in images.images.keys() - images.shapes]
    return sorted(faults)
