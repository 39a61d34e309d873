"""One read-only LMDB environment for each folder and process: py-lmdb 3 refuses to open a folder twice in a process."""

import os
import threading
from pathlib import Path

import lmdb

from han_arch.data.lmdb_check import open_checked

_environments: dict[Path, lmdb.Environment] = {}
_opening = threading.Lock()


def shared_environment(folder: Path) -> lmdb.Environment:
    """The environment of an LMDB in this process, opened at the first call.

    Ask for it at every read and do not keep it: after a fork the child opens its own, since LMDB's must not be used
    across a fork.

    Raises:
        LmdbFault: no whole LMDB there.
    """
    resolved = folder.resolve()
    with _opening:
        if resolved not in _environments:
            _environments[resolved] = open_checked(resolved)
        return _environments[resolved]


def close_environments() -> None:
    """Close what this process has open; the next read opens it again."""
    for environment in _environments.values():
        environment.close()
    _environments.clear()


def _start_anew() -> None:
    global _opening
    _opening = threading.Lock()  # another thread of the parent may have held the old one
    close_environments()


# py-lmdb's list of open folders survives a fork, so the child must close what it inherited before it opens its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
