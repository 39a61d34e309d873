"""The one reader of LMDBs, and the stores that `basicsr data prepare` writes: folders of PNG files, and LMDBs.

A store is called NAME.partial until it is whole. A kill at any moment leaves a NAME.partial: no reader takes it for a
data set, and the next run continues it.

BasicSR's own LMDB maker is not used: a partial LMDB from it reads as a smaller whole one, it can fill its map, and an
unreadable image stops it without the image's name.
"""

import json
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

import lmdb

from han_arch import files
from han_arch.errors import UserError, hint
from han_arch.images.png16 import PNG_END, png_header
from han_arch.images.write import PNG_LEVEL

RECORD = ".prepare.json"  # hidden, so that BasicSR's folder scan skips it


class LmdbFault(UserError):
    """An LMDB or one of its keys cannot be read; the message names the file and the fault."""


def open_lmdb(folder: Path) -> lmdb.Environment:
    """Open an LMDB, read-only, if its data.mdb is as long as its header says; the caller closes it.

    LMDB reads through a memory map: in a file cut short, a page beyond the end kills the process by SIGBUS.

    Raises:
        LmdbFault: no data.mdb, not an LMDB, or cut short.
    """
    data = folder / "data.mdb"
    if not data.is_file():
        raise LmdbFault(f"{folder} has no data.mdb")
    size = data.stat().st_size
    if size < 2 * 4096:
        raise LmdbFault(f"{data} is cut short: {size} bytes are less than its header")
    try:
        env = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise LmdbFault(f"{data} is not an LMDB or its header is damaged: {error}") from error
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if size < wanted:
        env.close()
        raise LmdbFault(f"{data} is cut short: {size} of {wanted} bytes")
    return env


def _keys_of(env: lmdb.Environment) -> list[str]:
    with env.begin() as transaction:
        return [bytes(key).decode("utf-8", "replace") for key in transaction.cursor().iternext(values=False)]


_environments: dict[Path, lmdb.Environment] = {}
_opening = threading.Lock()


def _shared(folder: Path) -> lmdb.Environment:
    # py-lmdb 3 refuses to open a folder twice in a process. An environment must not be used across a fork, so no
    # reader keeps it: a forked child opens its own.
    resolved = folder.resolve()
    with _opening:
        if resolved not in _environments:
            _environments[resolved] = open_lmdb(resolved)
        return _environments[resolved]


def lmdb_keys(folder: Path) -> list[str]:
    """Return all keys of an LMDB in their order; LmdbFault if they cannot be read."""
    try:
        return _keys_of(_shared(folder))
    except lmdb.Error as error:
        raise LmdbFault(f"{folder / 'data.mdb'} is damaged: {error}") from error


def lmdb_value(folder: Path, key: str) -> bytes:
    """Return the bytes at a key of an LMDB; LmdbFault if there is no such key or it cannot be read."""
    try:
        with _shared(folder).begin() as transaction:
            data = transaction.get(key.encode())
    except lmdb.Error as error:
        raise LmdbFault(f"{folder / 'data.mdb'} is damaged, key {key} cannot be read: {error}") from error
    if data is None:
        raise LmdbFault(f"{folder} has no key {key}; {hint(key, lmdb_keys(folder))}")
    return bytes(data)


def close_lmdbs() -> None:
    """Close the LMDBs that this process has open; the next read opens them again."""
    for environment in _environments.values():
        environment.close()
    _environments.clear()


def _reset_after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # a thread of the parent may have held the old one
    close_lmdbs()


# py-lmdb's list of open folders survives a fork, so the child closes what it inherited before it opens its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


class Store(ABC):
    """One prepared data set on the disk.

    Args:
        path: its place when it is whole.
        settings: its source and how it is made (plain JSON values). Two runs may share a result if these are equal.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.settings = settings

    def is_whole(self, names: Collection[str]) -> bool:
        """Return whether the finished data set exists with exactly these images, each of them complete.

        Raises:
            UserError: the path holds something else, or a damaged data set beside a partial one.
        """
        if not self.path.exists():
            return False
        self._check_record(self.path)
        if self.present(self.path) == set(names):
            return True
        if self.partial.exists():
            raise UserError(f"both {self.path} (damaged) and {self.partial} exist; remove one of them")
        return False

    def begin(self) -> set[str]:
        """Open or create the partial data set and return the names that it has already.

        A finished data set at the path is damaged, since `is_whole` said no; it becomes the partial one.
        """
        if self.path.exists():
            os.replace(self.path, self.partial)
        # A kill right after the folder was made leaves hidden files at most; anything else must be ours.
        if self.partial.exists() and any(not path.name.startswith(".") for path in self.partial.iterdir()):
            self._check_record(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        files.write(self.partial / RECORD, json.dumps(self.settings, indent=1))
        return self._open_partial()

    def finish(self, names: Collection[str]) -> None:
        """Turn the partial data set, which has all of `names`, into the finished one."""
        self._close_partial(set(names))
        os.replace(self.partial, self.path)

    @abstractmethod
    def put(self, images: dict[str, bytes]) -> None:
        """Add PNG files by name without extension, each whole or not at all."""

    @abstractmethod
    def present(self, folder: Path) -> set[str]:
        """Return the names of the complete images in a folder of this store."""

    def _open_partial(self) -> set[str]:
        return self.present(self.partial)

    @abstractmethod
    def _close_partial(self, names: set[str]) -> None: ...

    def _check_record(self, folder: Path) -> None:
        advice = "remove it or choose another -o"
        try:
            made_with = dict(json.loads((folder / RECORD).read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            raise UserError(f"{folder} exists and was not made by this command; {advice}") from None
        differences = "; ".join(
            f"{key}: {_shortened(made_with.get(key))}, now {_shortened(self.settings.get(key))}"
            for key in sorted({*made_with, *self.settings})
            if made_with.get(key) != self.settings.get(key)
        )
        if differences:
            raise UserError(f"{folder} was made with other settings ({differences}); {advice}")


def _shortened(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 40 else json.dumps(value)[:40]


class FolderStore(Store):
    """A folder of PNG files."""

    def put(self, images: dict[str, bytes]) -> None:
        """Write each file whole or not at all."""
        for name, data in images.items():
            files.write(self.partial / f"{name}.png", data)

    def present(self, folder: Path) -> set[str]:
        """Return the names of the PNG files that have a PNG file's end; after a power cut some may lack it."""
        return {path.stem for path in folder.glob("*.png") if _ends_as_png(path)}

    def _close_partial(self, names: set[str]) -> None:
        for path in self.partial.iterdir():
            if path.name != RECORD and not (path.suffix == ".png" and path.stem in names):
                path.unlink()


def _ends_as_png(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(PNG_END), 0))
        return file.read() == PNG_END


class LmdbStore(Store):
    """An LMDB with BasicSR's meta_info.txt; the keys are the names."""

    _env: lmdb.Environment

    def put(self, images: dict[str, bytes]) -> None:
        """Add the images in one transaction; enlarge the map if it is full."""
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for name, data in images.items():
                        transaction.put(name.encode("ascii"), data)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def present(self, folder: Path) -> set[str]:
        """Return the keys of an LMDB; none if it is damaged or disagrees with its meta_info.txt."""
        try:
            with open_lmdb(folder) as env:
                keys = set(_keys_of(env))
            # BasicSR takes each line up to its first dot as the key.
            lines = (folder / "meta_info.txt").read_text("utf-8").splitlines()
            return keys if keys == {line.split(".")[0] for line in lines} else set()
        except (LmdbFault, lmdb.Error, FileNotFoundError):
            return set()

    def _open_partial(self) -> set[str]:
        try:
            with open_lmdb(self.partial) as env:
                _keys_of(env)
        except (LmdbFault, lmdb.Error):  # none, or cut short: to open it for writing would kill the process
            (self.partial / "data.mdb").unlink(missing_ok=True)
        self._env = lmdb.open(str(self.partial), map_size=2**26)
        return set(_keys_of(self._env))

    def _close_partial(self, names: set[str]) -> None:
        surplus, lines = set(_keys_of(self._env)) - names, []
        with self._env.begin(write=True, buffers=True) as transaction:
            for name in surplus:
                transaction.delete(name.encode("ascii"))
            for key, value in transaction.cursor():
                png = png_header(bytes(value[:26]))
                shape = f"({png.height},{png.width},{png.channels})"
                lines.append(f"{bytes(key).decode('ascii')}.png {shape} {PNG_LEVEL}\n")
        self._env.sync(True)
        self._env.close()
        files.write(self.partial / "meta_info.txt", "".join(lines))
