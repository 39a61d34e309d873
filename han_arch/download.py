"""Download files and unpack zip archives: resume broken transfers, check size and hash, refuse unsafe archives.

A file in transfer is called NAME.part. NAME appears only when the file is complete and its hash is right.
"""

import http.client
import json
import os
import re
import shutil
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.files import half_written, hash_file, new_folder, write

CHUNK = 2**20
ATTEMPTS = 6  # in a row without a new byte
TIMEOUT = 60.0  # seconds without an answer
FINAL_STATUS = {401, 403, 404, 405, 410}
RECORD = "downloads.json"  # beside the files: the hashes of first downloads
COUNT_LIMIT = 100_000  # files in an archive
RATIO_LIMIT = 200  # images hardly compress; a zip bomb does, a thousand times and more


class DownloadError(UserError):
    """A download failed; the message names the address and the reason."""


class UnsafeArchive(UserError):
    """An archive is damaged or not a plain set of files; nothing was unpacked."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the internet."""

    url: str  # http or https
    name: str  # of the local file
    size: int | None = None  # bytes; None when it is not published
    hash: str | None = None  # "sha256:HEX" or "md5:HEX"; None when unpublished: the first download's hash is recorded


def fetch(remote: RemoteFile, folder: Path, say: Callable[[str], None], wait: float = 1.0) -> Path:
    """Download a file or resume its download, and return it; a correct file that exists is kept.

    Args:
        remote: the address, and the published size and hash.
        folder: for the file and the record of hashes.
        say: callback for one line on how the hash was checked.
        wait: seconds before the second attempt; doubled for each further one.

    Raises:
        DownloadError: the address is not http(s), the server refused, several attempts failed, or size or hash are
            wrong (the wrong file is removed).
    """
    if urllib.parse.urlsplit(remote.url).scheme not in ("http", "https"):
        raise DownloadError(f"{remote.url}: the address must begin with http or https")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    if target.exists():
        _verify(remote, target, say)
        return target
    part = folder / f"{remote.name}.part"
    _transfer(remote, part, wait)
    _verify(remote, part, say)
    os.replace(part, target)
    _info(part).unlink(missing_ok=True)
    return target


def _transfer(remote: RemoteFile, part: Path, wait: float) -> None:
    failures = 0
    with tqdm(desc=remote.name, total=remote.size, unit="B", unit_scale=True, dynamic_ncols=True) as progress:
        while True:
            before = _size(part)
            try:
                return _transfer_once(remote, part, progress)
            except (OSError, http.client.HTTPException) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures == ATTEMPTS:
                    raise DownloadError(
                        f"{remote.url}: {error}; {_size(part)} bytes are kept, run the same command again to resume"
                    ) from error
                time.sleep(wait * 2 ** (failures - 1))


def _transfer_once(remote: RemoteFile, part: Path, progress: "tqdm[Any]") -> None:
    start = _size(part)
    validator = _read_json(_info(part)).get("validator") if start else None
    headers = {"User-Agent": "han_arch", "Accept-Encoding": "identity"}
    if start and validator:
        # If-Range: the server sends a changed file from its start.
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    elif start and remote.hash:
        headers["Range"] = f"bytes={start}-"  # the hash will show whether the file has changed
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the remote file is shorter than ours, so it is another file
            part.unlink()
            raise ConnectionError("the server's file is shorter than the part here") from error
        if error.code in FINAL_STATUS:
            raise DownloadError(f"{remote.url}: the server answers {error.code} {error.reason}") from error
        raise
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        length = response.headers.get("Content-Length")
        wanted = start + int(length) if length else None
        if remote.size is not None and wanted is not None and wanted != remote.size:
            raise DownloadError(f"{remote.url}: the server's file has {wanted} bytes; wanted {remote.size}")
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            write(_info(part), json.dumps({"validator": validator}))
        else:
            _info(part).unlink(missing_ok=True)
        progress.total, progress.n = wanted, start
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    if wanted is not None and _size(part) != wanted:
        raise ConnectionError(f"the connection broke off after {_size(part)} of {wanted} bytes")


def _verify(remote: RemoteFile, file: Path, say: Callable[[str], None]) -> None:
    """Compare size and hash with the published or recorded ones; remove a wrong file, record a first hash."""
    size = _size(file)
    if remote.size is not None and size != remote.size:
        file.unlink()
        raise DownloadError(f"{remote.url}: got {size} bytes; wanted {remote.size}; the file was removed")
    record_file = file.parent / RECORD
    record = _read_json(record_file)
    wanted = remote.hash or record.get(remote.url)
    algorithm = wanted.split(":")[0] if wanted else "sha256"
    got = f"{algorithm}:{hash_file(file, algorithm)}"
    origin = "published hash" if remote.hash else "hash recorded at the first download"
    if wanted is None:
        write(record_file, json.dumps(record | {remote.url: got}, indent=1))
        say(f"{remote.name}: no published hash; {got} is recorded in {record_file} for later downloads")
    elif got == wanted:
        say(f"{remote.name}: {got} is the {origin}")
    else:
        file.unlink()
        raise DownloadError(f"{remote.url}: got {got}; the {origin} is {wanted}; the file was removed")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _info(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_json(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def unpack_zip(archive: Path, target: Path, limit: int, members: str | None = None) -> None:
    """Unpack a zip file into a new folder, which appears only when it is complete.

    Args:
        archive: the zip file.
        target: the folder to make. It does not repeat a folder that the archive wraps around all of its files.
        limit: the most bytes that all files together may have.
        members: a regular expression for the end of a file's path. Matching files are unpacked under the name that
            the groups form together, all others are skipped. None unpacks all files with their paths.

    Raises:
        UnsafeArchive: the zip file is damaged; a path leaves the target; a member is a link, a device or encrypted; two
            files share a name; the archive exceeds the limits of files, bytes or compression; no file is left.
        FileExistsError: the target exists.
    """
    for leftover in half_written(target):  # by an interrupted run
        shutil.rmtree(leftover)
    try:
        with zipfile.ZipFile(archive) as opened:
            places = _places(opened, archive, limit, members)
            target.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(target) as folder:
                for info, place in places.items():
                    _extract(opened, info, folder / place, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UnsafeArchive(f"{archive} is damaged or not a zip file: {error}") from error


def _places(
    opened: zipfile.ZipFile, archive: Path, limit: int, members: str | None
) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Check every member; return the place of each file to unpack."""
    infos = opened.infolist()
    if len(infos) > COUNT_LIMIT:
        raise UnsafeArchive(f"{archive} has {len(infos)} members; the limit is {COUNT_LIMIT}")
    for info in infos:
        if fault := _fault(info):
            raise UnsafeArchive(f"{archive}: {info.orig_filename!r} {fault}")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise UnsafeArchive(f"{archive} would unpack to {total} bytes; the limit is {limit}")
    files = {info: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    if members is not None:
        matches = {info: re.search(f"(?:^|/){members}$", info.filename) for info in files}
        files = {info: PurePosixPath("".join(match.groups())) for info, match in matches.items() if match}
    else:  # remove the folders that hold all files
        while files and all(len(place.parts) > 1 for place in files.values()):
            if len({place.parts[0] for place in files.values()}) > 1:
                break
            files = {info: PurePosixPath(*place.parts[1:]) for info, place in files.items()}
    if not files:
        raise UnsafeArchive(f"{archive} has no file of the expected names")
    lower = [str(place).lower() for place in files.values()]
    if len(set(lower)) < len(lower):
        raise UnsafeArchive(f"{archive} has two files of the same name")
    return files


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Return why a member is unsafe, or None."""
    # orig_filename, since zipfile cuts names at NUL and replaces backslashes on Windows.
    name = info.orig_filename
    path = PurePosixPath(name)
    if "\0" in name or "\\" in name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "would be written outside the target folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > CHUNK and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
        return f"is compressed {info.file_size // max(info.compress_size, 1)} times, like a zip bomb"
    return None


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, archive: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    # zipfile checks the CRC at the end of the member.
    with opened.open(info) as source, place.open("wb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > info.file_size:
                raise UnsafeArchive(f"{archive}: {info.filename!r} is longer than the archive's index says")
            file.write(chunk)
    if written != info.file_size:
        raise UnsafeArchive(f"{archive}: {info.filename!r} has {written} of {info.file_size} bytes")
