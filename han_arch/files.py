"""Write files completely or not at all, read and write strict JSON, compute hashes, and find the cache folder."""

import errno
import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from han_arch.errors import UserError, remedy
from han_arch.locks import lock

CACHE_VARIABLE = "HAN_ARCH_CACHE"
HALF_WRITTEN = ".*.part"  # glob pattern for temporary files and folders
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # errors of a full or read-only disk
_SPACE = "free disk space"
_CHUNK = 2**20
# Names of temporary files contain this mark: only the same computer can see whether their process still lives.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
_LEFTOVER = re.compile(rf"\..*\.{_HOST}[0-9a-f]{{8}}\.part", re.DOTALL)
_NONE = -1  # instead of a folder's descriptor on Windows, which cannot open folders
_cleared: set[str] = set()  # folders in which this process has already removed leftovers


def cache_folder() -> Path:
    """Return the folder for downloaded weights and compiled kernels. $HAN_ARCH_CACHE can set another folder.

    Raises:
        FileNotFoundError: this user has no home folder, and no environment variable sets the folder.
    """
    if moved := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(moved))
    name, default = {"win32": ("LOCALAPPDATA", "~/AppData/Local"), "darwin": ("", "~/Library/Caches")}.get(
        sys.platform, ("XDG_CACHE_HOME", "~/.cache")
    )
    base = os.environ.get(name) or os.path.expanduser(default)
    if base.startswith("~"):
        raise FileNotFoundError(f"this user has no home folder; set {CACHE_VARIABLE} to a folder for downloads")
    return Path(base) / "han_arch"


def hash_file(file: Path | BinaryIO, algorithm: str = "sha256") -> str:
    """Return the hash of a file as hex digits. An opened file is hashed from its current position.

    The algorithm is a name that `hashlib.new` accepts.
    """
    digest = hashlib.new(algorithm)
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file, and rename it to path at the end of the `with` block.

    After an error, an existing file is unchanged and no partial file remains. Other programs never see a partial file.

    Args:
        path: the file to write; its folder must exist.
        overwrite: whether to replace an existing file.
        durable: whether to wait until the disk has stored the file, so that it survives a power cut.

    Raises:
        FileExistsError: overwrite is False, and path exists at the end of the `with` block.
        OSError: the system refused to write.
    """
    if (folder := os.path.abspath(path.parent)) not in _cleared:
        _cleared.add(folder)
        clear_leftovers(path.parent)
    beside, descriptor = _make(path, _make_file)
    try:
        with _naming(path), open(beside, "w+b", opener=lambda *_: descriptor) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if sys.platform != "win32":  # rename while the file is open, because only an open file has its lock
                _move(beside, path, overwrite)
        if sys.platform == "win32":  # an open file cannot be renamed
            _move(beside, path, overwrite)
    finally:
        beside.unlink(missing_ok=True)


def encode(content: bytes | str) -> bytes:
    """Return the bytes of a file. Text is encoded as UTF-8, and a lone surrogate becomes an escape such as \\udcf6.

    Python reads a file name that is not UTF-8 as text with lone surrogates.
    """
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


def write(path: Path, content: bytes | str) -> None:
    """Write a file completely or not at all. Text is encoded by `encode`."""
    with replacing(path) as file:
        file.write(encode(content))


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a JSON file that must contain a mapping.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not UTF-8, is not JSON, is nested too deeply, or does not contain a mapping.
    """
    try:
        content = json.loads(path.read_bytes().decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"it must contain a mapping; got {type(content).__name__}")
    return content


def json_text(content: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return content as strict JSON, so nan and inf become null. Values that JSON cannot store become text."""
    content = _finite(content)
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False, default=str, sort_keys=sort_keys)


@contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """Make a hidden folder next to path for unfinished files, and remove it at the end of the `with` block."""
    clear_leftovers(path.parent)
    beside, descriptor = _make(path, _make_folder)
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if descriptor != _NONE:
            os.close(descriptor)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder, and rename it to path at the end of the `with` block.

    After an exception, the temporary folder is removed. The parent folder of path must exist.

    Raises:
        FileExistsError: path exists.
    """
    if os.path.lexists(path):
        raise FileExistsError(f"{path} already exists; remove it or choose another name")
    with working_folder(path) as beside, _naming(path):
        yield beside
        os.rename(beside, path)


@contextmanager
def clear_refusal(path: str | Path, advice: str, *, no_room_only: bool = False) -> Iterator[None]:
    """Turn write errors inside a `with` block, such as a full disk, into a UserError with a one-line message.

    Args:
        path: the file or folder that the `with` block writes. The message names it.
        advice: what the user can do, as the last part of the message. If it says "free disk space", and the disk is
            not full, the message has the text of `errors.remedy` instead.
        no_room_only: convert only errors of a full or read-only disk. Set it to True if the block also reads files.

    Raises:
        UserError: the system could not write.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save raises a RuntimeError with the system's error as its context.
        refusal = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refusal, OSError) or (no_room_only and refusal.errno not in NO_ROOM):
            raise
        if _SPACE in advice and refusal.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = remedy(refusal) or advice
        raise UserError(f"could not write {path}: {refusal.strerror or refusal}; {advice}") from error


def check_writable(paths: Iterable[Path]) -> None:
    """Raise UserError if one of these files cannot be written. Afterwards, the folders are as they were.

    The function makes empty files with the same names in a temporary folder, because permissions do not tell all: the
    disk can be read-only, and names can be too long.
    """
    folders: dict[Path, list[str]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path.name)
    for folder, names in folders.items():
        there = folder
        while not os.path.lexists(there) and there != there.parent:
            there = there.parent
        name = ""
        with clear_refusal(folder, "pass another folder for the output"), working_folder(there / "try") as trial:
            place = trial / folder.relative_to(there)
            place.mkdir(parents=True, exist_ok=True)
            for name in names:
                with clear_refusal(folder / name, "pass another output folder or a shorter name"):
                    (place / name).touch()


def clear_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that killed processes left in a folder.

    Only those of this user and this computer are removed. A living process locks its own, so they stay. `replacing`
    calls this function once per folder and process, `working_folder` and `new_folder` always. It does nothing on
    Windows, and where the file system has no locks.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):
        for name in os.listdir(folder):
            if _LEFTOVER.fullmatch(name):
                _remove_if_dead(folder / name)


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):  # another process was faster, or the system refuses
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or not lock(descriptor):
                return
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(path, ignore_errors=True)
            elif stat.S_ISREG(status.st_mode):
                path.unlink()
        finally:
            os.close(descriptor)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """In errors of the system, replace the name of a temporary file by `path`, which the user knows."""
    try:
        yield
    except OSError as error:
        if (error.filename is None and error.errno in NO_ROOM) or _LEFTOVER.fullmatch(Path(str(error.filename)).name):
            error.filename, error.filename2 = str(path), None
        raise


def _make(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Make a file or folder with a new name next to path, and lock it. Return the new path and its descriptor."""
    while True:
        # The name is short, because names are limited to 255 bytes.
        beside = path.with_name(f".{path.name[:40]}.{_HOST}{secrets.token_hex(4)}.part")
        with suppress(FileExistsError), _naming(path):
            descriptor = make(beside)
            # Before it was locked, another process may have removed it as a leftover.
            if descriptor == _NONE or (lock(descriptor) is not False and os.path.lexists(beside)):
                return beside, descriptor
            os.close(descriptor)


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _make_folder(path: Path) -> int:
    path.mkdir()
    if sys.platform == "win32":
        return _NONE
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    raise FileExistsError(f"another process removed {path} as a leftover")


def _move(source: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(source, target)
        return
    try:
        os.link(source, target)  # fails if target exists; a rename would replace it
    except OSError:  # target exists, or the file system does not support hard links
        if os.path.lexists(target):
            raise FileExistsError(f"{target} already exists; pass --overwrite to replace it") from None
        os.replace(source, target)
