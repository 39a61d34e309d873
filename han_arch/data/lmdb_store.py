"""LMDBs of images: open them safely, share them in a process, write them image by image.

BasicSR's own maker is not used: a partial LMDB from it reads as a smaller whole one, it can fill its map, and an
unreadable image stops it without the image's name.
"""

import os
import threading
from pathlib import Path

import lmdb

from han_arch import files
from han_arch.data.stores import Store
from han_arch.errors import UserError
from han_arch.images.png16 import png_header
from han_arch.images.write import PNG_LEVEL


class LmdbFault(UserError):
    """The folder holds no whole LMDB; the message names the file and the fault."""


def open_checked(folder: Path) -> lmdb.Environment:
    """Open an LMDB for reading if its file is as long as its header says.

    LMDB reads through a memory map. In a file cut short, a page beyond the end kills the process by SIGBUS. The two
    pages of the header are enough to find this out.

    Args:
        folder: the LMDB (a folder with data.mdb in it).

    Returns:
        A read-only environment; the caller closes it.

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


def lmdb_keys(env: lmdb.Environment) -> list[str]:
    """Return all keys of an LMDB in their order."""
    with env.begin() as transaction:
        return [bytes(key).decode("utf-8", "replace") for key in transaction.cursor().iternext(values=False)]


_environments: dict[Path, lmdb.Environment] = {}
_opening = threading.Lock()


def shared_environment(folder: Path) -> lmdb.Environment:
    """Return the one environment of an LMDB in this process; the first call opens it.

    py-lmdb 3 refuses to open a folder twice in a process. Call this at every read and do not keep the result: an
    environment must not be used across a fork, so a forked child opens its own.

    Raises:
        LmdbFault: no whole LMDB there.
    """
    resolved = folder.resolve()
    with _opening:
        if resolved not in _environments:
            _environments[resolved] = open_checked(resolved)
        return _environments[resolved]


def close_environments() -> None:
    """Close the LMDBs that this process has open; the next read opens them again."""
    for environment in _environments.values():
        environment.close()
    _environments.clear()


def _reset_after_fork() -> None:
    global _opening
    _opening = threading.Lock()  # a thread of the parent may have held the old one
    close_environments()


# py-lmdb's list of open folders survives a fork, so the child closes what it inherited before it opens its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


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
            with open_checked(folder) as env:
                keys = set(lmdb_keys(env))
            # BasicSR takes each line up to its first dot as the key.
            lines = (folder / "meta_info.txt").read_text("utf-8").splitlines()
            return keys if keys == {line.split(".")[0] for line in lines} else set()
        except (LmdbFault, lmdb.Error, FileNotFoundError):
            return set()

    def _open_partial(self) -> set[str]:
        data = self.partial / "data.mdb"
        if data.exists():
            try:
                with open_checked(self.partial) as env:
                    lmdb_keys(env)
            except (LmdbFault, lmdb.Error):  # cut short: to open it for writing would kill the process
                data.unlink()
        self._env = lmdb.open(str(self.partial), map_size=2**26)
        return set(lmdb_keys(self._env))

    def _close_partial(self, names: set[str]) -> None:
        surplus, lines = set(lmdb_keys(self._env)) - names, []
        with self._env.begin(write=True, buffers=True) as transaction:
            for name in surplus:
                transaction.delete(name.encode("ascii"))
            for key, value in transaction.cursor():
                header = png_header(bytes(value[:26]))
                shape = f"({header.height},{header.width},{header.channels})"
                lines.append(f"{bytes(key).decode('ascii')}.png {shape} {PNG_LEVEL}\n")
        self._env.sync(True)
        self._env.close()
        files.write(self.partial / "meta_info.txt", "".join(lines))
