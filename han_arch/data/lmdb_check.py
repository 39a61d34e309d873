"""Opening an LMDB without the risk that a file cut short kills the process by SIGBUS."""

from pathlib import Path

import lmdb

from han_arch.errors import UserError


class LmdbFault(UserError):
    """The folder holds no whole LMDB; the message names it and says what is wrong."""


def open_checked(folder: Path) -> lmdb.Environment:
    """Open an LMDB for reading after comparing the file's size with the pages that it claims to have.

    LMDB reads through a memory map, and touching a page behind the end of the file ends the process. The header's two
    pages are enough to tell, so they are looked at first.

    Args:
        folder: the LMDB (a folder with data.mdb in it).

    Returns:
        A read-only environment; the caller closes it.

    Raises:
        LmdbFault: no data.mdb, not an LMDB, or cut short.
    """
    data = folder / "data.mdb"
    if not data.is_file():
        raise LmdbFault(f"{folder} has no data.mdb")
    size = data.stat().st_size
    if size < 2 * 4096:
        raise LmdbFault(f"{data} is cut short: {size} bytes are less than its header")
    try:
        env = lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise LmdbFault(f"{data} is not an LMDB or its header is damaged: {error}") from error
    wanted = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if size < wanted:
        env.close()
        raise LmdbFault(f"{data} is cut short: {size} of {wanted} bytes")
    return env


class SampleError(UserError):
    """A training or validation sample cannot be used; the message names its file, or its LMDB and key."""
