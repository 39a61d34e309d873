"""Download files, resume interrupted downloads, and unpack zip archives safely.

During a download the file is called NAME.part. It is renamed to NAME when it is complete and its hash is right.
"""

import http.client
import json
import os
import posixpath
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
from han_arch.files import hash_file, new_folder, write

CHUNK = 2**20
ATTEMPTS = 6  # consecutive attempts without a new byte before the download fails
TIMEOUT = 60.0  # seconds to wait for an answer of the server
FINAL_STATUS = {401, 403, 404, 405, 410}  # HTTP errors after which the download fails immediately
RECORD = "downloads.json"  # file in the download folder with the hashes of first downloads
COUNT_LIMIT = 100_000  # largest number of entries in an archive
RATIO_LIMIT = 200  # largest allowed ratio of unpacked size to packed size; zip bombs reach 1000 and more


class DownloadError(UserError):
    """Error for a failed download. The message contains the address and the reason."""


class UnsafeArchive(UserError):
    """Error for an archive that is damaged or has unsafe entries. Nothing was unpacked."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the internet, and its name on the local disk."""

    url: str  # begins with http or https
    name: str  # of the local file
    size: int | None = None  # in bytes; None if no size is published
    hash: str | None = None  # "sha256:HEX" or "md5:HEX"; None if no hash is published


def fetch(remote: RemoteFile, folder: Path, say: Callable[[str], None], wait: float = 1.0) -> Path:
    """Download a file, or resume its download, and return its path. An existing correct file is not downloaded again.

    If no hash is published, this function records the hash of the first download and compares later downloads with it.

    Args:
        folder: folder for the file and for the record of hashes.
        say: function that gets one line of text, the result of the hash check.
        wait: seconds before the second attempt; the time doubles before each further attempt.

    Raises:
        DownloadError: the address does not begin with http or https; the server refused the request; ATTEMPTS
            consecutive attempts failed; or the size or the hash is wrong. A wrong file is removed.
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
                        f"{remote.url}: {error}; {_size(part)} bytes are kept; run the command again to resume"
                    ) from error
                time.sleep(wait * 2 ** (failures - 1))


def _transfer_once(remote: RemoteFile, part: Path, progress: "tqdm[Any]") -> None:
    start = _size(part)
    validator = _read_json(_info(part)).get("validator") if start else None
    headers = {"User-Agent": "han_arch", "Accept-Encoding": "identity"}
    if validator:
        # With If-Range, the server sends the complete file if it has changed.
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    elif start and remote.hash:
        headers["Range"] = f"bytes={start}-"  # if the file on the server has changed, the hash check fails later
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the server's file is shorter than our part, so it is another file
            part.unlink()
            raise ConnectionError("the file on the server is shorter than the downloaded part") from error
        if error.code in FINAL_STATUS:
            raise DownloadError(f"{remote.url}: the server answered {error.code} {error.reason}") from error
        raise
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        length = response.headers.get("Content-Length")
        wanted = start + int(length) if length else None
        if remote.size is not None and wanted is not None and wanted != remote.size:
            raise DownloadError(f"{remote.url}: the file on the server has {wanted} bytes instead of {remote.size}")
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
        raise ConnectionError(f"the connection was lost after {_size(part)} of {wanted} bytes")


def _verify(remote: RemoteFile, file: Path, say: Callable[[str], None]) -> None:
    """Check the size and the hash of a file. Remove a wrong file. If no hash is known, record the file's hash."""
    size = _size(file)
    if remote.size is not None and size != remote.size:
        file.unlink()
        raise DownloadError(f"{remote.url}: the file has {size} bytes instead of {remote.size}; the file was removed")
    record_file = file.parent / RECORD
    record = _read_json(record_file)
    wanted = remote.hash or record.get(remote.url)
    algorithm = wanted.split(":")[0] if wanted else "sha256"
    got = f"{algorithm}:{hash_file(file, algorithm)}"
    origin = "published hash" if remote.hash else "hash recorded at the first download"
    if wanted is None:
        write(record_file, json.dumps(record | {remote.url: got}, indent=1))
        say(f"{remote.name}: there is no published hash; {got} was recorded in {record_file}, to check later downloads")
    elif got == wanted:
        say(f"{remote.name}: the hash {got} equals the {origin}")
    else:
        file.unlink()
        raise DownloadError(
            f"{remote.url}: the file has the hash {got}, but the {origin} is {wanted}; the file was removed"
        )


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
    """Unpack a zip file into a new folder. The folder appears only when it is complete.

    Args:
        target: the folder to make. A top folder that contains all files of the archive is not created.
        limit: largest total size of the unpacked files, in bytes.
        members: regular expression for the end of a file's path. Only files that match are unpacked. A file's new path
            is the joined text of the expression's groups. None: all files are unpacked with their paths.

    Raises:
        UnsafeArchive: the zip file is damaged; no file matches `members`; two files get the same name; an entry is a
            link, is a device, is encrypted or has a path outside the target; there are too many files or bytes;
            or the compression ratio is too high.
        FileExistsError: the target exists.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            places = _places(opened, archive, limit, members)
            target.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(target) as folder:
                for info, place in places.items():
                    path = folder / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    # zipfile reads no more than the size in the index, and checks the CRC at the end.
                    with opened.open(info) as source, path.open("wb") as file:
                        shutil.copyfileobj(source, file, CHUNK)
                    if (size := path.stat().st_size) != info.file_size:
                        raise UnsafeArchive(
                            f"{archive}: {info.filename!r} has {size} bytes; the archive's index says {info.file_size}"
                        )
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UnsafeArchive(f"{archive} is damaged or not a zip file: {error}") from error


def _places(
    opened: zipfile.ZipFile, archive: Path, limit: int, members: str | None
) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Check all entries of the zip file. Return a dict from each file's entry to its path in the target folder."""
    infos = opened.infolist()
    if len(infos) > COUNT_LIMIT:
        raise UnsafeArchive(f"{archive} must have at most {COUNT_LIMIT} entries; got {len(infos)}")
    for info in infos:
        if fault := _fault(info):
            raise UnsafeArchive(f"{archive}: {info.orig_filename!r} {fault}")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise UnsafeArchive(f"the files in {archive} have {total} bytes when unpacked; at most {limit} are allowed")
    files = {info: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    if members is not None:
        matches = {info: re.search(f"(?:^|/){members}$", info.filename) for info in files}
        files = {info: PurePosixPath("".join(match.groups())) for info, match in matches.items() if match}
    elif files:  # remove top folders that contain all files
        top = posixpath.commonpath([place.parent for place in files.values()])
        files = {info: place.relative_to(top) for info, place in files.items()}
    if not files:
        raise UnsafeArchive(f"{archive} does not contain any of the expected files")
    lower = [str(place).lower() for place in files.values()]
    if len(set(lower)) < len(lower):
        raise UnsafeArchive(f"{archive} contains two files that would get the same name")
    return files


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Return why an entry of a zip file is unsafe to unpack; None if it is safe."""
    # orig_filename is the stored name. In filename, zipfile cuts the name at NUL and replaces backslashes on Windows.
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
        return f"becomes {info.file_size // max(info.compress_size, 1)} times larger when unpacked, like a zip bomb"
    return None
