"""Locks of the operating system, so that two processes never do the same work. A crashed process frees its locks."""

import errno
import hashlib
import os
import platform
import shlex
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from han_arch.errors import UserError, printable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FAR = 2**30  # Windows locks a byte, and nobody can read a locked byte: lock one behind the text of the file
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_PAUSE = 0.2  # seconds between two tries
_MOST_TRIES = 1000  # to open a lock file that other processes remove again and again
_inherited: set[int] = set()  # descriptors of locked files; a forked child must close them
_told: set[str] = set()  # warnings that this process has printed


@contextmanager
def held(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a file or folder during a `with` block, so that no other process works on it.

    The lock file is `.NAME.lock` beside `path`; missing parent folders are made. The system frees the lock when the
    process ends, also if it is killed. Forked children do not keep the lock. The block runs without a lock, after a
    warning on standard error, if the file system has no locks, or if nobody may write beside an existing `path`.

    Args:
        path: the file or folder to protect; it may be missing.
        what: the work as a noun, for messages, such as "the training of han_x4".
        wait: wait until the lock is free, after one line on standard error. Otherwise, raise an error.

    Raises:
        UserError: another process, or another block of this process, holds the lock, and `wait` is False.
        OSError: the lock file cannot be opened.
    """
    lock_file = _lock_file(path)
    new_folders = [folder for folder in lock_file.parents if not folder.exists()]
    descriptor, unwritable = None, ""
    try:
        descriptor = _open_locked(lock_file)
    except OSError as error:
        if error.errno not in _UNWRITABLE or not path.exists():
            raise
        unwritable = os.strerror(error.errno)
    if unwritable:  # for example, a finished data set on a read-only disk, or a link to a folder there
        _warn_once(f"could not write {lock_file} ({unwritable}); do not start a second process there")
        yield
        return
    while descriptor is None:
        owner = f"{what} is in progress: {_read_owner(lock_file)} holds {lock_file}"
        if not wait:
            raise UserError(f"{owner}; wait until that process ends, stop it, or choose another name or folder")
        _warn_once(f"{owner}; waiting until it ends")
        time.sleep(_PAUSE)
        descriptor = _open_locked(lock_file)
    process = os.getpid()
    _inherited.add(descriptor)
    try:
        with suppress(OSError):  # the text only helps readers: the lock does not need it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, _owner().encode(errors="replace"))
        yield
    finally:
        if process == os.getpid():  # a forked child has closed its copy, and leaves the file to its parent
            _inherited.discard(descriptor)
            _release(descriptor, lock_file)
            with suppress(OSError):
                for folder in new_folders:  # remove those that are still empty
                    folder.rmdir()


def lock(descriptor: int) -> bool | None:
    """Lock an open file or folder without waiting, until it is closed.

    Returns:
        True: this descriptor has the lock. False: another one has it. None: this file system or object has no locks.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK) else None
    return True


def _lock_file(path: Path) -> Path:
    real = Path(os.path.realpath(path))  # two links to one folder have one lock
    name = real.name
    if len(os.fsencode(name)) > 200:  # names are limited to 255 bytes
        name = f"{name[:40]}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return real.with_name(f".{name}.lock")


def _open_locked(path: Path) -> int | None:
    """Open and lock the lock file. Return its descriptor, or None if another process holds the lock."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    for _ in range(_MOST_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the earlier holder has just removed its empty folder
            continue
        except OSError as error:  # the file of another user can still be locked and read
            if error.errno not in _UNWRITABLE or not path.exists():
                raise
            descriptor = os.open(path, flags | os.O_RDONLY)
        keep = False
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"the lock file {path} must be a regular file; remove it")
            locked = lock(descriptor)
            if locked is False:
                return None
            if locked is None:
                _warn_once(f"the file system of {path.parent} has no locks; do not start a second process there")
            # The earlier holder may have removed the file after we opened it. Windows keeps a file that is open.
            keep = sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), os.lstat(path))
        except FileNotFoundError:
            continue
        finally:
            if not keep:
                os.close(descriptor)
        if keep:
            return descriptor
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _release(descriptor: int, path: Path) -> None:
    if sys.platform == "win32":  # an open file cannot be removed
        os.close(descriptor)
    with suppress(OSError):  # a lock file that stays does no harm
        path.unlink()
    if sys.platform != "win32":
        os.close(descriptor)


def _owner() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {platform.node()}, since {since} ({shlex.join(sys.argv)})"


def _read_owner(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(1000).decode(errors="replace")
    except OSError:  # the holder has just ended, or the file belongs to another user
        text = ""
    return printable(text) or "another process"


def _warn_once(line: str) -> None:
    if line not in _told:
        _told.add(line)
        sys.stderr.write(f"basicsr: warning: {line}\n")


def _close_inherited() -> None:
    # A lock belongs to an open file, which parent and child share: it would last until the last worker ends.
    while _inherited:
        os.close(_inherited.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
