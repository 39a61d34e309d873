"""The memory of this process: keep freed blocks for the next training step, and measure a peak.

glibc returns every freed block above a threshold (32 MiB at most) to the system, and the kernel fills each new one with
zeros. For the feature maps of a training step on a CPU this takes a good part of the time.
"""

import ctypes
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
# The largest int. glibc before 2.35 accepts no more than half of a heap.
_MMAP_THRESHOLDS = (2**31 - 1, 32 * 2**20)
_NEVER_TRIM = -1
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux only
_TOP_PAD = 64 * 2**20  # step by which the heap grows
# glibc's own values in a process that frees blocks of about 30 MiB: it trims at twice the threshold.
_ADAPTED = {_M_MMAP_THRESHOLD: 32 * 2**20, _M_TRIM_THRESHOLD: 64 * 2**20, _M_TOP_PAD: 128 * 2**10}


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> str | None:
    """Make glibc keep freed memory; return a line for the log. The process then stays at its peak of memory.

    Without glibc, or with the user's own settings (MALLOC_*, GLIBC_TUNABLES, LD_PRELOAD of another allocator), do
    nothing and return None.
    """
    libc = _glibc(environment)
    if libc is None:
        return None
    threshold = next((value for value in _MMAP_THRESHOLDS if libc.mallopt(_M_MMAP_THRESHOLD, value)), None)
    if threshold is None or not (libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) and libc.mallopt(_M_TOP_PAD, _TOP_PAD)):
        return None
    return (
        f"glibc keeps freed blocks of up to {threshold / 2**20:.0f} MiB for the next step; "
        "set GLIBC_TUNABLES=glibc.malloc... to use your own settings"
    )


def give_back_freed_memory(environment: Mapping[str, str] = os.environ) -> None:
    """Undo `keep_freed_memory`: return free memory to the system, now and from now on."""
    if libc := _glibc(environment):
        for parameter, value in _ADAPTED.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def added_at_peak(run: Callable[[], object]) -> int | None:
    """Return the bytes of resident memory that run adds at its peak; None if the system does not report them.

    Freed memory that the process still has hides a part: return it to the system before, or use a new process.
    """
    try:
        CLEAR_PEAK.write_text("5")  # sets the peak to what is resident now
    except OSError:
        return None
    rest = _kilobytes("VmRSS")
    run()
    return 1024 * (_kilobytes("VmHWM") - rest)


def _kilobytes(field: str) -> int:
    line = next(line for line in STATUS.read_text("utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


def _glibc(environment: Mapping[str, str]) -> ctypes.CDLL | None:
    """Return the C library, if its allocator is in use and has no settings by the user."""
    own = [name for name in environment if name.startswith("MALLOC_") and name.endswith("_")]
    if own or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or environment.get("LD_PRELOAD"):
        return None
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt.argtypes, libc.mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    libc.malloc_trim.argtypes, libc.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
    return libc
