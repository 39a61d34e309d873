"""Files on the internet: their addresses, sizes and hashes, and the check of a downloaded copy."""

import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from han_arch.errors import UserError, printable
from han_arch.files import hash_file, json_text, read_mapping, write
from han_arch.locks import held

RECORD = "downloads.json"  # file in the download folder with the hashes of first downloads
_HASH = r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}"


class DownloadError(UserError):
    """Error for a failed download. The message contains the address and the reason."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the internet, and its name on the local disk."""

    url: str  # begins with http or https
    name: str  # of the local file
    size: int | None = None  # in bytes; None if no size is published
    hash: str | None = None  # "sha256:HEX" or "md5:HEX"; None if no hash is published


def open_verified(remote: RemoteFile, path: Path, say: Callable[[str], None]) -> BinaryIO:
    """Open a downloaded file, and check its size and hash. If no hash is known, record the file's hash.

    The returned file is the one that was checked, even if another program replaces it in its folder.

    Args:
        path: the downloaded file; its folder contains the record of hashes. A wrong file is removed.
        say: function that gets one line of text, the result of the check.

    Raises:
        DownloadError: the size or the hash is wrong.
        OSError: the file cannot be read, or the record cannot be written.
    """
    file = path.open("rb")
    try:
        fault = _find_fault(remote, file, path.parent / RECORD, say)
    except BaseException:
        file.close()
        raise
    if fault:
        file.close()  # Windows cannot remove an open file
        path.unlink()
        raise DownloadError(f"{remote.url}: the file has {fault}; the file was removed")
    file.seek(0)
    return file


def _find_fault(remote: RemoteFile, file: BinaryIO, record_file: Path, say: Callable[[str], None]) -> str:
    """Return what is wrong with an opened file; "" if nothing is wrong."""
    size = os.fstat(file.fileno()).st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes instead of {remote.size}"
    # A folder that is only read needs no lock.
    with nullcontext() if remote.hash else held(record_file, f"an update of {record_file}", wait=True):
        record = {} if remote.hash else _read_record(record_file, say)
        wanted = remote.hash or record.get(remote.url)
        algorithm = wanted.split(":")[0] if wanted else "sha256"
        got = f"{algorithm}:{hash_file(file, algorithm)}"
        if wanted is None:
            write(record_file, json_text(record | {remote.url: got}, indent=1))
    origin = "published hash" if remote.hash else "hash recorded at the first download"
    if wanted is None:
        say(f"{remote.name}: there is no published hash; {got} was recorded in {record_file}, to check later downloads")
    elif got == wanted:
        say(f"{remote.name}: the hash {got} equals the {origin}")
    else:
        return f"the hash {got}, but the {origin} is {wanted}"
    return ""


def _read_record(path: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Read the recorded hashes. If the file is damaged, keep a copy of it, and restore all hashes that it contains."""
    try:
        record = read_mapping(path)
        if wrong := [url for url, value in record.items() if not re.fullmatch(_HASH, str(value))]:
            raise ValueError(f"it has no hash for {printable(wrong[0])}")
        return record
    except FileNotFoundError:
        return {}
    except ValueError as error:
        copy = path.with_name(f"{path.name}.damaged-{hash_file(path)[:8]}")
        content = path.read_bytes()
        pairs = re.findall(rf'"(https?://[^"]*)"\s*:\s*"({_HASH})"', content.decode(errors="replace"))
        write(copy, content)
        write(path, json_text(dict(pairs), indent=1))
        say(f"{path} is damaged ({printable(error)}); {len(pairs)} hashes were restored, and {copy} keeps the old file")
        return dict(pairs)
