"""Compile kernels.c for this processor when it is first needed, and load it. The compilation takes about a second.

The compiled file stays in a cache folder of the user. The file name is a hash of the source, the options and the
compiler's macros, so machines that share a home folder do not load each other's code.

Code of other users is never loaded. Each folder on the path to the compiled file must be safe from other users. The
check opens every folder, and opens the file in the folder that it checked, so no other user can exchange them between
check and use. Without a safe cache folder, each process compiles the kernels into a private temporary folder.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from han_arch.errors import UserError
from han_arch.files import cache_folder, write

SOURCE = Path(__file__).with_name("kernels.c")
# -ffp-contract=fast allows fused multiply-add with -std=c11 too. None of the options allows reordered sums.
OPTIONS = ("-std=c11", "-O3", "-ffp-contract=fast", "-march=native", "-fopenmp", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")
# O_PATH opens folders that this user may pass but not list, such as /home with mode 0711.
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_PATH", os.O_RDONLY)

_numbers, _count, _threads = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_SIGNATURES: dict[str, tuple[list[type], type | None]] = {
    "winograd_transform_weight": ([_numbers, *[_count] * 4, _numbers, *[_count] * 2, _threads], None),
    "winograd_convolution": ([_numbers] * 4 + [_count] * 5 + [_threads], ctypes.c_int),
    "winograd_weight_gradient": ([_numbers] * 3 + [_count] * 5 + [_threads], ctypes.c_int),
}


def find_compiler() -> list[str]:
    """Return the command of the C compiler: $CC if it is set, else the first program of COMPILERS that is on the PATH.

    Raises:
        UserError: the compiler is not on the PATH, or the system is Windows.
    """
    if sys.platform == "win32":
        raise _unusable("this does not work on Windows")
    own = os.environ.get("CC", "").strip()
    try:
        commands = [shlex.split(own)] if own else [[name] for name in COMPILERS]
    except ValueError:  # an open quotation mark
        commands = []
    for command in commands:
        if shutil.which(command[0]):
            return command
    missing = f"CC is {own!r}, which is not a program" if own else f"none of {', '.join(COMPILERS)} is"
    raise _unusable(f"{missing} on the PATH")


@cache
def library() -> ctypes.CDLL:
    """Load the compiled kernels.c from the cache; compile it first if the cache does not have it.

    Raises:
        UserError: there is no C compiler, the compilation fails, or no folder is writable.
    """
    compiler = find_compiler()
    macros = _run([*compiler, *OPTIONS, "-dM", "-E", "-x", "c", os.devnull])  # depend on compiler and processor
    name = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(OPTIONS).encode(), macros])).hexdigest()[:16]
    kept = Path(f"kernels-{os.getuid()}") / f"winograd-{name}.so"
    try:
        kept = cache_folder() / kept
        for above in reversed(kept.parent.parents):
            above.mkdir(mode=0o755, exist_ok=True)  # the umask may allow others to write
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        kept = kept.parent.resolve() / kept.name
        with _safe_folder(kept.parent) as folder:
            with suppress(OSError):  # the file is missing, damaged or unsafe
                return _load(kept, folder)
            with _compiled(compiler) as (built, temporary), _opened(built, temporary) as file:
                write(kept, file.read())
            os.chmod(kept.name, 0o700, dir_fd=folder)  # again, because of the umask
            return _load(kept, folder)
    except OSError as unkept:  # the cache is unusable: compile for this process only
        try:
            with _compiled(compiler) as (built, temporary):
                return _load(built, temporary)
        except OSError as error:
            raise _unusable(f"cannot write to {kept.parent} ({unkept}) or a temporary folder ({error})") from error


@contextmanager
def _safe_folder(folder: Path) -> Iterator[int]:
    """Open a folder of this user; yield its descriptor. Raise OSError if another user could exchange what is in it.

    `folder` must have no symbolic links. Every folder above it must belong to this user or to root, and other users
    must not be able to write to it, unless it is sticky like /tmp.
    """
    here = os.open(folder.anchor, _FOLDER)
    try:
        for part in (None, *folder.parts[1:]):
            if part is not None:
                above, here = here, os.open(part, _FOLDER, dir_fd=here)
                os.close(above)
            status = os.fstat(here)
            sticky = status.st_mode & stat.S_ISVTX
            if status.st_uid not in (0, os.getuid()) or (_others_can_write(status) and not sticky):
                raise PermissionError(f"another user can change {part or folder.anchor} in the path of {folder}")
        if status.st_uid != os.getuid() or _others_can_write(status):
            raise PermissionError(f"other users can write to {folder}")
        yield here
    finally:
        os.close(here)


def _others_can_write(status: os.stat_result) -> bool:
    import grp  # Windows has neither
    import pwd

    try:  # many systems give each user a group of his own, and let this group write
        user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(status.st_gid)
        private = user == group.gr_name and set(group.gr_mem) <= {user}
    except KeyError:
        private = False
    # Root's group has no other members; containers with any user number use it.
    return bool(status.st_mode & (0o002 if private or status.st_gid == 0 else 0o022))


@contextmanager
def _compiled(compiler: list[str]) -> Iterator[tuple[Path, int]]:
    """Compile the kernels into a new folder that only this user can open. Yield the file and the folder's descriptor.

    The folder is removed at the end of the `with` block.
    """
    with tempfile.TemporaryDirectory(prefix="han_arch_", ignore_cleanup_errors=True) as name:
        folder = os.open(name, _FOLDER)
        try:
            status = os.fstat(folder)
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise PermissionError(f"other users can open {name}")
            built = Path(name) / "winograd.so"
            _run([*compiler, *OPTIONS, "-shared", str(SOURCE), "-o", str(built)])
            os.chmod(built.name, 0o700, dir_fd=folder)  # fails if another user has exchanged the folder
            yield built, folder
        finally:
            os.close(folder)


@contextmanager
def _opened(path: Path, folder: int) -> Iterator[BinaryIO]:
    """Open the file `path.name` in an opened folder. Raise OSError if another user could change the file."""
    with os.fdopen(os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid() and status.st_nlink == 1
        if not own or _others_can_write(status):
            raise PermissionError(f"{path} is a link, or other users can write to it")
        yield file


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    except OSError as error:
        raise _unusable(f"{command[0]} cannot be run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise _unusable(f"{command[0]} failed: {lines[0] if lines else f'status {error.returncode}'}") from error


def _load(path: Path, folder: int) -> ctypes.CDLL:
    """Load the library `path.name` from an opened folder."""
    with _opened(path, folder) as file:
        # The copy stays open, because ctypes finds a loaded library by this name.
        opened = Path(f"/proc/self/fd/{os.dup(file.fileno())}")
        library = ctypes.CDLL(str(opened if opened.exists() else path))
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype, function.errcheck = arguments, result, _check_memory
    return library


def _check_memory(failed: int | None, *_: object) -> None:
    if failed:
        raise MemoryError("not enough memory for a convolution by Winograd's algorithm")


def _unusable(why: str) -> UserError:
    return UserError(
        f"Winograd's algorithm is compiled at its first use and needs a C compiler with OpenMP, but {why}; "
        "install gcc, set CC to another compiler, or turn Winograd off"
    )
