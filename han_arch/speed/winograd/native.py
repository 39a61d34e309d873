"""Compile kernels.c for this processor when it is first needed, and load it. The compilation takes about a second.

The compiled file stays in a cache folder of the user. The file name is a hash of the source, the options and the
compiler's macros, so machines that share a home folder do not load each other's code. Code is never loaded from a
folder that other users can write to.
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
from contextlib import suppress
from functools import cache
from pathlib import Path

from han_arch.errors import UserError
from han_arch.files import cache_folder, replacing

SOURCE = Path(__file__).with_name("kernels.c")
# -ffp-contract=fast allows fused multiply-add with -std=c11 too. None of the options allows reordered sums.
OPTIONS = ("-std=c11", "-O3", "-ffp-contract=fast", "-march=native", "-fopenmp", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")

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
    kept = cache_folder() / f"kernels-{os.getuid()}" / f"winograd-{name}.so"
    try:
        kept.parent.parent.mkdir(parents=True, exist_ok=True)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        status = kept.parent.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
            raise PermissionError(f"other users can write to {kept.parent}")
        with suppress(OSError):  # the file is missing or damaged
            return _load(kept)
        return _compile(compiler, kept)
    except OSError as unkept:  # the cache is unusable: compile into a temporary folder
        try:
            with tempfile.TemporaryDirectory(prefix="han_arch_") as folder:
                return _compile(compiler, Path(folder) / "winograd.so")
        except OSError as error:
            raise _unusable(f"cannot write to {kept.parent} ({unkept}) or a temporary folder ({error})") from error


def _compile(compiler: list[str], target: Path) -> ctypes.CDLL:
    with replacing(target) as file:
        _run([*compiler, *OPTIONS, "-shared", str(SOURCE), "-o", str(file.name)])
    return _load(target)


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    except OSError as error:
        raise _unusable(f"{command[0]} cannot be run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        raise _unusable(f"{command[0]} failed: {lines[0] if lines else f'status {error.returncode}'}") from error


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
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
