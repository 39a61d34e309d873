"""Files that are written whole or not at all, hashes of files, and the user's cache folder."""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from han_arch.errors import UserError

CACHE_VARIABLE = "HAN_ARCH_CACHE"
HALF_WRITTEN = ".*.part"  # the names of files and folders that are being written, as a glob pattern
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_CHUNK = 2**20


def cache_folder() -> Path:
    """Return the folder for what can be made or fetched again: weights, compiled kernels. $HAN_ARCH_CACHE moves it."""
    moved = os.environ.get(CACHE_VARIABLE)
    if moved:
        return Path(moved).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "han_arch"


def hash_file(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's hash as hex digits, by an algorithm that `hashlib.new` knows."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of path when the block ends; after an exception it is removed.

    A reader sees the old file or the whole new one.

    Args:
        path: the file to write; its folder must exist.
        overwrite: replace a file that is there.
        durable: wait until the file is on the disk, so that a power cut cannot lose it.

    Raises:
        FileExistsError: path exists, or appeared meanwhile, and overwrite is False.
        OSError: the system refused to write.
    """
    beside = _beside(path)
    try:
        with beside.open("x+b") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if overwrite:
            os.replace(beside, path)
        else:
            _move_to_free_name(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text is written as UTF-8. See `replacing`."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside path, for files that are moved to path when they are complete; remove it at the end.

    The parent folder must exist.
    """
    beside = _beside(path)
    beside.mkdir()
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder to write into, beside path; it gets the name path when the block ends without an exception.

    The parent folder must exist.

    Raises:
        FileExistsError: path exists.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists; remove it or choose another name")
    with working_folder(path) as beside:
        yield beside
        os.rename(beside, path)


@contextmanager
def clear_refusal(path: str | Path, advice: str, *, no_room_only: bool = False) -> Iterator[None]:
    """Context in which the system's refusal to write, such as a full disk, becomes one clear line.

    Args:
        path: what is being written.
        advice: what the user can do.
        no_room_only: leave other errors as they are, for a block that does more than write.

    Raises:
        UserError: the system refused.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save hides the system's error behind one of its own.
        refusal = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refusal, OSError) or (no_room_only and refusal.errno not in _NO_ROOM):
            raise
        raise UserError(f"could not write {path}: {refusal.strerror or refusal}; {advice}") from error


def half_written(path: Path) -> list[Path]:
    """List the half-written files and folders beside path that interrupted runs left."""
    return list(path.parent.glob(f".{glob.escape(path.name[:40])}.{'[0-9a-f]' * 8}.part"))


def _beside(path: Path) -> Path:
    """Return a free name beside path that matches HALF_WRITTEN; short, since names may have 255 bytes at most."""
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")


def _move_to_free_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # fails where a rename would replace
    except OSError:  # the name is taken, or the file system has no links
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists; --overwrite replaces it") from None
        os.replace(source, target)
