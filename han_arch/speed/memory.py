"""Keep freed memory for the next training step, and measure peak memory.

When a block larger than a threshold is freed, glibc returns it to the system. By default, the threshold never exceeds
32 MiB. The kernel fills each new block with zeros. With large feature maps, this exchange of memory takes a large
part of a training step on a CPU.
"""

import ctypes
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

# Numbers of malloc parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
# The first value that glibc accepts is used. glibc before 2.35 rejects the largest int.
_MMAP_THRESHOLDS = (2**31 - 1, 32 * 2**20)
_NEVER_TRIM = -1
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only
_TOP_PAD = 64 * 2**20  # bytes by which the heap grows
# glibc adapts its parameters to the freed blocks. It reaches these values when blocks of about 30 MiB are freed.
_ADAPTED = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20, _M_TOP_PAD: 128 * 2**10}


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> str | None:
    """Make glibc keep freed memory in the process; return a log line.

    Do nothing and return None if the C library is not glibc, or if the user has set an environment variable that
    changes the allocator: MALLOC_*_ (such as MALLOC_TOP_PAD_), GLIBC_TUNABLES with glibc.malloc, or LD_PRELOAD.
    """
    libc = _glibc(environment)
    if libc is None:
        return None
    threshold = next((value for value in _MMAP_THRESHOLDS if libc.mallopt(_M_MMAP_THRESHOLD, value)), None)
    if threshold is None or not (libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) and libc.mallopt(_M_TOP_PAD, _TOP_PAD)):
        return None
    return (
        f"glibc keeps freed memory for the next training step, in blocks of up to {threshold / 2**20:.0f} MiB; "
        "set GLIBC_TUNABLES=glibc.malloc... to use your own settings"
    )


def give_back_freed_memory(environment: Mapping[str, str] = os.environ) -> None:
    """Undo `keep_freed_memory`: return freed memory to the system, and let glibc return memory that is freed later."""
    if libc := _glibc(environment):
        for parameter, value in _ADAPTED.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def trim_freed_memory() -> None:
    """Return memory that is free now to the system. glibc keeps much of it otherwise. The settings stay as they are."""
    if libc := _glibc({}):
        libc.malloc_trim(0)


def added_at_peak(run: Callable[[], object]) -> int | None:
    """Call `run` and return how many bytes of resident memory it adds at its peak.

    If Linux's /proc is not available, return None and do not call `run`. The number is too small if `run` reuses freed
    memory that the process has kept. To avoid this, call `give_back_freed_memory` first.
    """
    try:
        CLEAR_PEAK.write_text("5")  # resets the peak to the memory that is resident now
    except OSError:
        return None
    rest = _kilobytes("VmRSS")
    run()
    return 1024 * (_kilobytes("VmHWM") - rest)


def _kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text("utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


def _glibc(environment: Mapping[str, str]) -> ctypes.CDLL | None:
    """Return the C library if it is glibc and the user has not changed its allocator, else None."""
    own = [name for name in environment if name.startswith("MALLOC_") and name.endswith("_")]
    if own or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or environment.get("LD_PRELOAD"):
        return None
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt.argtypes, libc.mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    libc.malloc_trim.argtypes, libc.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
    return libc
