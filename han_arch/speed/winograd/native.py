"""Compiles kernels.c for this processor at its first use, and loads it.

A wheel with compiled code would need one for each platform, with instructions of the oldest processor of it; the C
compiler that is there takes a second and knows this one. The result is kept in the user's cache under a name that
follows from the source, the options, and the compiler's own account of what it compiles for: a home folder that
different machines share serves each with its own. A cache may also be shared by people: each has a folder of their own
there, and code is loaded only from one that nobody else can write to.
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
from han_arch.files import cache_folder

SOURCE = Path(__file__).with_name("kernels.c")
# ffp-contract: one instruction multiplies and adds, in strict C too. Nothing here is allowed to reorder sums.
OPTIONS = ("-std=c11", "-O3", "-ffp-contract=fast", "-march=native", "-fopenmp", "-fPIC")
COMPILERS = ("cc", "gcc", "clang")

_numbers, _count, _threads = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_SIGNATURES: dict[str, tuple[list[type], type | None]] = {
    "winograd_transform_weight": ([_numbers, *[_count] * 4, _numbers, *[_count] * 2, _threads], None),
    "winograd_convolution": ([_numbers] * 4 + [_count] * 5 + [_threads], ctypes.c_int),
    "winograd_weight_gradient": ([_numbers] * 3 + [_count] * 5 + [_threads], ctypes.c_int),
}


@cache
def library() -> ctypes.CDLL:
    """The functions of kernels.c.

    Raises:
        UserError: there is no C compiler, or it cannot compile them.
    """
    if sys.platform == "win32":
        raise _unusable("that is not done on Windows")
    compiler = _compiler()
    source = SOURCE.read_bytes()
    target = _run([*compiler, *OPTIONS, "-dM", "-E", "-x", "c", os.devnull])  # macros: the compiler, and the processor
    name = hashlib.sha256(b"\0".join([source, " ".join(OPTIONS).encode(), target])).hexdigest()[:16]
    kept = cache_folder() / f"kernels-{os.getuid()}" / f"winograd-{name}.so"
    try:
        kept.parent.parent.mkdir(parents=True, exist_ok=True)
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        _require_own(kept.parent)
        with suppress(OSError):  # not there yet, or damaged
            return _load(kept)
        _compile(compiler, kept)
        return _load(kept)
    except OSError as unkept:  # no place to keep it: it serves this process
        try:
            with tempfile.TemporaryDirectory(prefix="han_arch_") as folder:
                passing = Path(folder) / "winograd.so"
                _compile(compiler, passing)
                return _load(passing)
        except OSError as error:
            raise _unusable(f"neither {kept.parent} ({unkept}) nor a temporary folder ({error}) can be used") from error


def _compiler() -> list[str]:
    chosen = (os.environ.get("CC") or "").strip()
    if chosen:
        try:
            return shlex.split(chosen)
        except ValueError as error:
            raise _unusable(f"CC is {chosen!r}: {error}") from error
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise _unusable(f"none of {', '.join(COMPILERS)} is on the PATH")


def _require_own(folder: Path) -> None:
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o022:
        raise PermissionError(f"others can write to {folder}")


def _compile(compiler: list[str], target: Path) -> None:
    """Write beside, then rename: processes that start together each find a whole file."""
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
        made = Path(folder) / target.name
        _run([*compiler, *OPTIONS, "-shared", str(SOURCE), "-o", str(made)])
        made.replace(target)


def _run(command: list[str]) -> bytes:
    try:
        return subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    except OSError as error:
        raise _unusable(f"{command[0]} cannot be run ({error.strerror})") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise _unusable(f"{command[0]} failed: {said[0] if said else f'status {error.returncode}'}") from error


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


def _unusable(why: str) -> UserError:
    return UserError(
        f"Winograd's convolutions are compiled at their first use, by a C compiler with OpenMP: {why}; "
        "install gcc or name one in CC, or do without them"
    )
