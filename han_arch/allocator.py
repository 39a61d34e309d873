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


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> str | None:
    """Ask glibc to keep what is freed; nothing happens elsewhere, or where the user has settings of their own.

    The process then stays at its peak of memory. Numbers do not change.

    Args:
        environment: where MALLOC_*, GLIBC_TUNABLES and LD_PRELOAD (another allocator) are looked up.

    Returns:
        What was done, in one line for the log; None: nothing.
    """
    own = [name for name in environment if name.startswith("MALLOC_") and name.endswith("_")]
    if own or "glibc.malloc" in environment.get("GLIBC_TUNABLES", "") or environment.get("LD_PRELOAD"):
        return None
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    threshold = next((value for value in _MMAP_THRESHOLDS if mallopt(_M_MMAP_THRESHOLD, value)), None)
    if threshold is None or not (mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM) and mallopt(_M_TOP_PAD, _TOP_PAD)):
        return None
    return (
        f"glibc keeps freed blocks of up to {threshold / 2**20:.0f} MiB for the next step; "
        "set GLIBC_TUNABLES=glibc.malloc... to choose for yourself"
    )
