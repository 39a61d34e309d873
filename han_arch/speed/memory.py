"""Keeping freed memory in the process, so that a training step on a CPU does not fault in its temporaries anew.

glibc gives every freed block above a threshold (at most 32 MiB by itself) back to the system, and the kernel fills each
new one with zeroed pages: for the feature maps of a training step that is a good part of the time.
"""

import ctypes
import os
import platform
from collections.abc import Mapping

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
# The largest int; releases before 2.35 take no more than half of a heap.
_MMAP_THRESHOLDS = (2**31 - 1, 32 * 2**20)
_NEVER_TRIM = -1
_TOP_PAD = 64 * 2**20  # the heap grows by so much at once
# Where glibc's own adaptation ends in a process that frees blocks of some 30 MiB: it trims at twice the threshold.
_ADAPTED_MMAP_THRESHOLD, _ADAPTED_TRIM_THRESHOLD, _DEFAULT_TOP_PAD = 32 * 2**20, 64 * 2**20, 128 * 2**10


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> str | None:
    """Ask glibc to keep what is freed; nothing happens elsewhere, or where the user has settings of their own.

    The process then stays at its peak of memory. Numbers do not change.

    Args:
        environment: where MALLOC_*, GLIBC_TUNABLES and LD_PRELOAD (another allocator) are looked up.

    Returns:
        What was done, in one line for the log; None: nothing.
    """
    libc = _glibc(environment)
    if libc is None:
        return None
    threshold = next((value for value in _MMAP_THRESHOLDS if libc.mallopt(_M_MMAP_THRESHOLD, value)), None)
    if threshold is None or not (libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) and libc.mallopt(_M_TOP_PAD, _TOP_PAD)):
        return None
    return (
        f"glibc keeps freed blocks of up to {threshold / 2**20:.0f} MiB for the next step; "
        "set GLIBC_TUNABLES=glibc.malloc... to choose for yourself"
    )


def give_back_freed_memory(environment: Mapping[str, str] = os.environ) -> None:
    """Undo `keep_freed_memory`: what is free goes back to the system, and will as in a process left to itself.

    Args:
        environment: as there.
    """
    libc = _glibc(environment)
    if libc is None:
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _ADAPTED_MMAP_THRESHOLD)
    libc.mallopt(_M_TRIM_THRESHOLD, _ADAPTED_TRIM_THRESHOLD)
    libc.mallopt(_M_TOP_PAD, _DEFAULT_TOP_PAD)
    libc.malloc_trim(0)


def _glibc(environment: Mapping[str, str]) -> ctypes.CDLL | None:
    """The C library, where its allocator is in use and the user has not set it."""
    own = [name for name in environment if name.startswith("MALLOC_") and name.endswith("_")]
    if own or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or environment.get("LD_PRELOAD"):
        return None
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    libc.mallopt.argtypes, libc.mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    libc.malloc_trim.argtypes, libc.malloc_trim.restype = [ctypes.c_size_t], ctypes.c_int
    return libc
