"""Where `basicsr data prepare` writes its images: the life of a store, and stores that are folders.

- `begin` opens the NAME.partial of an earlier run, or makes a new one.
- `put` adds each image whole or not at all.
- `finish` writes the files that readers need and renames the folder to NAME.

A kill at any moment leaves a NAME.partial: no reader takes it for a data set, and the next run continues it.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

from han_arch import files
from han_arch.errors import UserError
from han_arch.images.png16 import PNG_END, PNG_SIGNATURE

RECORD = ".prepare.json"  # hidden, so that BasicSR's folder scan skips it


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
        """Add PNG files by name without extension."""

    @abstractmethod
    def present(self, folder: Path) -> set[str]:
        """Return the names of the complete images in a folder of this store."""

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
        differences = [
            f"{key}: {_shortened(made_with.get(key))}, now {_shortened(self.settings.get(key))}"
            for key in sorted({*made_with, *self.settings})
            if made_with.get(key) != self.settings.get(key)
        ]
        if differences:
            raise UserError(
                f"{folder} was made with other settings ({'; '.join(differences)}); remove it or choose another -o"
            )


class FolderStore(Store):
    """A folder of PNG files."""

    def put(self, images: dict[str, bytes]) -> None:
        """Write each file whole or not at all."""
        for name, data in images.items():
            files.write(self.partial / f"{name}.png", data)

    def present(self, folder: Path) -> set[str]:
        """Return the names of the PNG files that have a PNG file's end; after a power cut some may lack it."""
        return {path.stem for path in folder.glob("*.png") if _ends_as_png(path)}

    def _open_partial(self) -> set[str]:
        return self.present(self.partial)

    def _close_partial(self, names: set[str]) -> None:
        for path in self.partial.iterdir():
            if path.name != RECORD and not (path.suffix == ".png" and path.stem in names):
                path.unlink()


def _ends_as_png(path: Path) -> bool:
    size = path.stat().st_size
    if size < len(PNG_SIGNATURE) + len(PNG_END):
        return False
    with path.open("rb") as file:
        file.seek(-len(PNG_END), os.SEEK_END)
        return file.read() == PNG_END


def _shortened(value: Any) -> str:
    return value if isinstance(value, str) and len(value) < 40 else json.dumps(value)[:40]
