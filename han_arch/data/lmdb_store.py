"""The LMDB as a store: written image by image, resumed after a kill, with the meta_info.txt that BasicSR reads.

BasicSR's own maker is not used: it leaves a partial LMDB that reads as a smaller whole one, fills its map, and dies on
an unreadable image without naming it.
"""

from pathlib import Path

import lmdb

from han_arch.data.lmdb_check import LmdbFault, open_checked
from han_arch.data.stores import Store, write_atomically
from han_arch.images.strict import PNG_LEVEL, png_header


class LmdbStore(Store):
    """An LMDB with BasicSR's meta_info.txt; keys are the names."""

    _env: lmdb.Environment

    def put(self, images: dict[str, bytes]) -> None:
        """Add the images in one transaction; the map grows as it must."""
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for name, data in images.items():
                        transaction.put(name.encode("ascii"), data)
                return
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def present(self, folder: Path) -> set[str]:
        """The keys of an LMDB, none if it is damaged or disagrees with its meta_info.txt."""
        try:
            with open_checked(folder) as env:
                keys = set(lmdb_keys(env))
            return keys if keys == set(meta_info_keys(folder)) else set()
        except (LmdbFault, lmdb.Error, FileNotFoundError):
            return set()

    def _open_partial(self) -> set[str]:
        data = self.partial / "data.mdb"
        if data.exists():
            try:
                with open_checked(self.partial) as env:
                    lmdb_keys(env)
            except (LmdbFault, lmdb.Error):  # cut short: opening it for writing would kill the process
                data.unlink()
        self._env = lmdb.open(str(self.partial), map_size=2**26)
        return set(lmdb_keys(self._env))

    def _close_partial(self, names: set[str]) -> None:
        there, lines = set(lmdb_keys(self._env)), []
        with self._env.begin(write=True, buffers=True) as transaction:
            for name in there - names:
                transaction.delete(name.encode("ascii"))
            for key, value in transaction.cursor():
                header = png_header(bytes(value[:26]))
                shape = f"({header.height},{header.width},{header.channels})"
                lines.append(f"{bytes(key).decode('ascii')}.png {shape} {PNG_LEVEL}\n")
        self._env.sync(True)
        self._env.close()
        write_atomically(self.partial / "meta_info.txt", "".join(lines).encode("ascii"))


def lmdb_keys(env: lmdb.Environment) -> list[str]:
    """All keys of an LMDB in their order."""
    with env.begin() as transaction:
        return [bytes(key).decode("utf-8", "replace") for key in transaction.cursor().iternext(values=False)]


def meta_info_keys(folder: Path) -> list[str]:
    """The keys that an LMDB's meta_info.txt names, read as BasicSR reads them: each line up to its first dot."""
    return [line.split(".")[0] for line in (folder / "meta_info.txt").read_text("utf-8").splitlines()]
