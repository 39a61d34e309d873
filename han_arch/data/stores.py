"""Read LMDBs, and write the data sets of `basicsr data prepare`: folders of PNG files, and LMDBs.

An unfinished data set is called NAME.partial. If the command is killed, its next run continues NAME.partial.
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
from han_arch.images.png16 import PNG_END

RECORD = ".prepare.json"  # the settings of a data set; a hidden file, which BasicSR does not read as an image


class LmdbFault(UserError):
    """An LMDB or one of its keys cannot be read; the message names the file and the reason."""


def open_lmdb(folder: Path) -> lmdb.Environment:
    """Open an LMDB read-only; raise LmdbFault if its data.mdb is missing, damaged or cut short."""
    data = folder / "data.mdb"
    if not data.is_file():
        raise LmdbFault(f"{folder} has no data.mdb")
    size = data.stat().st_size
    if size < 2 * 4096:
        raise LmdbFault(f"{data} is cut short: it has only {size} bytes, less than an LMDB header")
    try:
        env = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise LmdbFault(f"{data} is not an LMDB, or its header is damaged: {error}") from error
    # LMDB reads data.mdb through a memory map. If the file is cut short, reading beyond its end kills the process.
    try:
        wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    except lmdb.Error as error:
        env.close()  # otherwise, this process could not open the folder again
        raise LmdbFault(f"{data} is damaged: {error}") from error
    if size < wanted:
        env.close()
        raise LmdbFault(f"{data} is cut short: it has {size} of {wanted} bytes")
    return env


def raw_keys(env: lmdb.Environment) -> list[bytes]:
    """Return all keys of an open LMDB in sorted order."""
    with env.begin() as transaction:
        return [bytes(key) for key in transaction.cursor().iternext(values=False)]


def _keys_of(env: lmdb.Environment) -> list[str]:
    return [key.decode("utf-8", "replace") for key in raw_keys(env)]


_environments: dict[Path, lmdb.Environment] = {}
_opening = threading.Lock()


def _shared(folder: Path) -> lmdb.Environment:
    # py-lmdb 3 cannot open a folder twice in one process, so all readers share one environment. They get it from
    # here at each read, because a forked child must not use the parent's environment and opens the folder again.
    resolved = folder.resolve()
    with _opening:
        if resolved not in _environments:
            _environments[resolved] = open_lmdb(resolved)
        return _environments[resolved]


def lmdb_keys(folder: Path) -> list[str]:
    """Return all keys of an LMDB in sorted order; raise LmdbFault if they cannot be read."""
    try:
        return _keys_of(_shared(folder))
    except lmdb.Error as error:
        raise LmdbFault(f"{folder / 'data.mdb'} is damaged: {error}") from error


def lmdb_value(folder: Path, key: str) -> bytes:
    """Return the bytes at a key of an LMDB; raise LmdbFault if the key is missing or cannot be read."""
    try:
        with _shared(folder).begin() as transaction:
            data = transaction.get(key.encode())
    except lmdb.Error as error:
        raise LmdbFault(f"{folder / 'data.mdb'} is damaged; key {key} cannot be read: {error}") from error
    if data is None:
        raise LmdbFault(f"{folder} has no key {key}; {hint(key, lmdb_keys(folder))}")
    return bytes(data)


def close_lmdbs() -> None:
    """Close all LMDBs that this process has open; the next `lmdb_keys` or `lmdb_value` opens an LMDB again."""
    for environment in _environments.values():
        environment.close()
    _environments.clear()


def _reset_after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # the old lock may be held by a thread that exists only in the parent
    close_lmdbs()


# A forked child inherits py-lmdb's list of open folders. It closes them, so that it can open them again itself.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


class Store(ABC):
    """A data set that `basicsr data prepare` makes. An unfinished data set is at `partial`, a finished one at `path`.

    `settings` are plain JSON values that determine the images. A run continues or keeps the data set of an earlier
    run only if the settings have not changed.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.settings = settings

    def is_whole(self, names: Collection[str]) -> bool:
        """Return True if the data set is finished, has exactly the images in `names`, and all of them are complete.

        Raises:
            UserError: the data set was made with other settings; or it is damaged, and `partial` exists too.
        """
        if not self.path.exists():
            return False
        self._check_record(self.path)
        if self.present(self.path) == set(names):
            return True
        if self.partial.exists():
            raise UserError(f"both {self.path} (damaged) and {self.partial} (unfinished) exist; remove one of them")
        return False

    def begin(self) -> set[str]:
        """Open or create the unfinished data set `partial`; return the names of the images that it already has.

        Call this only if `is_whole` returned False. If `path` exists, it is damaged; `begin` renames it to `partial`.
        """
        if self.path.exists():
            os.replace(self.path, self.partial)
        # A run that was killed right after it made the folder leaves only hidden files. If there are other files, the
        # record must show that basicsr data prepare made the folder.
        if self.partial.exists() and any(not path.name.startswith(".") for path in self.partial.iterdir()):
            self._check_record(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        files.write(self.partial / RECORD, files.json_text(self.settings, indent=1))
        return self._open_partial()

    def finish(self, names: Collection[str]) -> None:
        """Delete images that are not in `names`, then rename `partial` to `path`."""
        self._close_partial(set(names))
        os.replace(self.partial, self.path)

    def close(self) -> None:  # noqa: B027 (a folder needs no closing)
        """Release what `begin` opened. The next run can continue the data set."""

    @abstractmethod
    def put(self, images: dict[str, bytes]) -> None:
        """Add images (dict from name to PNG bytes). If the process is killed, no incomplete image is left."""

    @abstractmethod
    def present(self, folder: Path) -> set[str]:
        """Return the names of the complete images in `folder`, which is `self.path` or `self.partial`."""

    def _open_partial(self) -> set[str]:
        return self.present(self.partial)

    @abstractmethod
    def _close_partial(self, names: set[str]) -> None: ...

    def _check_record(self, folder: Path) -> None:
        advice = "remove the folder, or pass another output folder with -o"
        try:
            made_with = files.read_mapping(folder / RECORD)
        except (FileNotFoundError, ValueError):
            fault = f"{folder} exists but has no readable {RECORD}, so data prepare cannot continue"
            raise UserError(f"{fault}; {advice}") from None
        differences = "; ".join(
            f"{key} was {_shortened(made_with.get(key))}, is now {_shortened(self.settings.get(key))}"
            for key in sorted({*made_with, *self.settings})
            if made_with.get(key) != self.settings.get(key)
        )
        if differences:
            raise UserError(f"{folder} was made with other settings ({differences}); {advice}")


def _shortened(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 40 else json.dumps(value)[:40]


class FolderStore(Store):
    """A data set as a folder of PNG files."""

    def put(self, images: dict[str, bytes]) -> None:
        """Write each image to NAME.png."""
        for name, data in images.items():
            files.write(self.partial / f"{name}.png", data)

    def present(self, folder: Path) -> set[str]:
        """Return the names of the PNG files; skip incomplete files, which a power cut may have left."""
        return {path.stem for path in folder.glob("*.png") if _ends_as_png(path)}

    def _close_partial(self, names: set[str]) -> None:
        for path in self.partial.iterdir():
            if path.name != RECORD and not (path.suffix == ".png" and path.stem in names):
                path.unlink()


def _ends_as_png(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(PNG_END), 0))
        return file.read() == PNG_END
