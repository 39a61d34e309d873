"""Where prepared images go, begun as NAME.partial and renamed when whole: what all stores share, and folders.

Every store has the same life: `begin` opens what an earlier run left or starts afresh, `put` adds images that are
either wholly there or not at all, `finish` writes what readers need and renames. A process killed at any moment leaves
a NAME.partial that no reader takes for a data set and that the next run goes on from.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

from han_arch.errors import UserError
from han_arch.images.strict import PNG_END, PNG_SIGNATURE

RECORD = ".prepare.json"  # hidden, so that BasicSR's folder scan passes over it


class Store(ABC):
    """One prepared data set on the disk.

    Args:
        path: where it stands when it is whole.
        settings: what it is made from and how (plain JSON values); two runs agree on a result when these are equal.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.settings = settings

    def is_whole(self, names: Collection[str]) -> bool:
        """Whether the finished data set is there, made with these settings, with just these names in it.

        A finished one in which files are missing or cut short becomes partial again, so that they are made anew.

        Raises:
            UserError: something else stands at the path.
        """
        if not self.path.exists():
            return False
        self._check_record(self.path)
        if self.present(self.path) == set(names):
            return True
        if self.partial.exists():
            raise UserError(f"both {self.path} (damaged) and {self.partial} exist; remove one of them")
        os.replace(self.path, self.partial)
        return False

    def begin(self) -> set[str]:
        """Open or create the partial data set; returns the names that it has already."""
        # A kill right after the folder was made leaves hidden files at most; anything else must be ours.
        if self.partial.exists() and any(not path.name.startswith(".") for path in self.partial.iterdir()):
            self._check_record(self.partial)
        self.partial.mkdir(parents=True, exist_ok=True)
        write_atomically(self.partial / RECORD, json.dumps(self.settings, indent=1).encode())
        return self._open_partial()

    def finish(self, names: Collection[str]) -> None:
        """Make the partial data set, which has all of `names`, the finished one."""
        self._close_partial(set(names))
        os.replace(self.partial, self.path)

    @abstractmethod
    def put(self, images: dict[str, bytes]) -> None:
        """Add PNG files by name without extension."""

    @abstractmethod
    def present(self, folder: Path) -> set[str]:
        """The names of the images in a folder of this store that are there to their ends."""

    @abstractmethod
    def _open_partial(self) -> set[str]: ...

    @abstractmethod
    def _close_partial(self, names: set[str]) -> None: ...

    def _check_record(self, folder: Path) -> None:
        try:
            made_with = dict(json.loads((folder / RECORD).read_text("utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            raise UserError(
                f"{folder} exists and was not made by this command; remove it or choose another -o"
            ) from None
        differ = [key for key in sorted({*made_with, *self.settings}) if made_with.get(key) != self.settings.get(key)]
        if differ:
            how = "; ".join(
                f"{key}: {_short(made_with.get(key))}, now {_short(self.settings.get(key))}" for key in differ
            )
            raise UserError(f"{folder} was made otherwise ({how}); remove it or choose another -o")


class FolderStore(Store):
    """A folder of PNG files."""

    def put(self, images: dict[str, bytes]) -> None:
        """Write each file beside its place, then rename it there."""
        for name, data in images.items():
            write_atomically(self.partial / f"{name}.png", data)

    def present(self, folder: Path) -> set[str]:
        """Names of the PNG files that end as a PNG file ends; after a power cut some may not."""
        return {path.stem for path in folder.glob("*.png") if _ends_as_png(path)}

    def _open_partial(self) -> set[str]:
        return self.present(self.partial)

    def _close_partial(self, names: set[str]) -> None:
        for path in self.partial.iterdir():
            if path.name != RECORD and not (path.suffix == ".png" and path.stem in names):
                path.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_bytes(data)
    os.replace(beside, path)


def _ends_as_png(path: Path) -> bool:
    size = path.stat().st_size
    if size < len(PNG_SIGNATURE) + len(PNG_END):
        return False
    with path.open("rb") as file:
        file.seek(-len(PNG_END), os.SEEK_END)
        return file.read() == PNG_END


def _short(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 40 else json.dumps(value)[:40]
