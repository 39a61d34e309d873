"""Write the LMDBs of `basicsr data prepare`, and read LMDBs that may be damaged."""

import contextlib
import logging
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lmdb

from han_arch import files
from han_arch.data.parallel import WorkerDied, run_apart
from han_arch.data.stores import LmdbFault, Store, open_lmdb, raw_keys
from han_arch.errors import UserError
from han_arch.images.picture import ImageError
from han_arch.images.png16 import PNG_END, png_header
from han_arch.images.write import PNG_LEVEL

logger = logging.getLogger("han_arch")
CONTINUE = "free disk space, then run the same command again: finished images are kept"
_FIRST_MAP = 2**26  # first maximum size of an LMDB in bytes


class LmdbStore(Store):
    """A data set as an LMDB with BasicSR's meta_info.txt; the LMDB keys are the image names."""

    # We do not use BasicSR's LMDB maker: its unfinished LMDB looks like a smaller finished one, it fails if the images
    # exceed the LMDB's maximum size, and its error about an unreadable image does not name the file.
    _env: lmdb.Environment

    def put(self, images: dict[str, bytes]) -> None:
        """Add the images in one transaction. If the LMDB reaches its maximum size, double the size and try again."""
        while True:
            try:
                with _named_refusal(self.partial), self._env.begin(write=True) as transaction:
                    for name, data in images.items():
                        transaction.put(name.encode("ascii"), data)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def present(self, folder: Path) -> set[str]:
        """Return the keys of the complete images in an LMDB.

        Return an empty set if the LMDB is damaged or its meta_info.txt has other keys.
        """
        try:
            keys = _read_apart(folder)
            # BasicSR takes the text before the first dot of each line as the key.
            lines = (folder / "meta_info.txt").read_text("utf-8").splitlines()
            return keys if keys == {line.split(".")[0] for line in lines} else set()
        except (LmdbFault, OSError, UnicodeDecodeError):
            return set()

    def close(self) -> None:
        """Close the LMDB, so that this process can open it again."""
        if hasattr(self, "_env"):
            self._env.close()  # may be called twice

    def _open_partial(self) -> set[str]:
        keys: set[str] = set()
        data = self.partial / "data.mdb"
        if os.path.lexists(data):
            try:
                keys = _read_apart(self.partial, try_writing=True)
            except LmdbFault as fault:  # to open a damaged file for writing could kill this process
                logger.warning(f"{fault}; {self.path.name} is made again")
                data.unlink()
        with _named_refusal(self.partial):
            self._env = lmdb.open(str(self.partial), map_size=_FIRST_MAP)
        return keys

    def _close_partial(self, names: set[str]) -> None:
        lines = []
        with _named_refusal(self.partial):
            keys = raw_keys(self._env)
            with self._env.begin(write=True, buffers=True) as transaction:
                for key in keys:
                    if (name := key.decode("utf-8", "replace")) not in names:
                        transaction.delete(key)
                        continue
                    png = png_header(bytes(transaction.get(key, b"")[:26]))
                    lines.append(f"{name}.png ({png.height},{png.width},{png.channels}) {PNG_LEVEL}\n")
            self._env.sync(True)
        self.close()
        files.write(self.partial / "meta_info.txt", "".join(lines))


def _read_apart(folder: Path, *, try_writing: bool = False) -> set[str]:
    try:
        return set(run_apart(partial(whole_images, try_writing=try_writing), folder))
    except WorkerDied:
        raise LmdbFault(f"{folder}: data.mdb is damaged; the process that read its keys crashed") from None


@contextlib.contextmanager
def _named_refusal(folder: Path) -> Iterator[None]:
    """Turn errors of LMDB, such as a full disk, into a UserError; let an LMDB that reached its maximum size pass."""
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        raise UserError(f"could not write {folder / 'data.mdb'}: {error}; {CONTINUE}") from error


def whole_images(folder: Path, *, try_writing: bool = False) -> list[str]:
    """Return the keys of the complete PNG images in an LMDB. Damaged pages can crash this process; use `run_apart`.

    Args:
        try_writing: also begin and abort a write, which reads the list of free pages.

    Raises:
        LmdbFault: the LMDB cannot be read.
    """
    try:
        with open_lmdb(folder) as env, env.begin(buffers=True) as transaction:
            keys = [bytes(key).decode("utf-8", "replace") for key, value in transaction.cursor() if _is_whole(value)]
        if try_writing:
            with lmdb.open(str(folder), map_size=_FIRST_MAP) as env, env.begin(write=True) as transaction:
                transaction.put(b"trial", bytes(2**14))
                transaction.abort()
        return keys
    except lmdb.Error as error:
        raise LmdbFault(f"{folder / 'data.mdb'} is damaged: {error}") from error


def _is_whole(png: memoryview) -> bool:
    try:
        png_header(bytes(png[:26]))
    except ImageError:
        return False
    return bytes(png[-len(PNG_END) :]) == PNG_END
