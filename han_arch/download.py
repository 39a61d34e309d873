"""Fetches files: goes on after a broken transfer, checks size and hash, and finishes atomically.

A file in transfer is called NAME.part; NAME exists only when all of it is there and its hash is right.
"""

import hashlib
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

CHUNK = 2**20
ATTEMPTS = 6  # in a row without a new byte
TIMEOUT = 60.0  # seconds without an answer
FINAL_STATUS = {401, 403, 404, 405, 410}
RECORD = "downloads.json"  # hashes recorded at first use, beside the files


class DownloadError(UserError):
    """The file could not be had; the message names the address and says why."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the net.

    Attributes:
        url: http or https.
        name: what the file is called here.
        size: bytes, None when nobody published it.
        hash: "sha256:HEX" or "md5:HEX", None when nobody published one: then what comes first is recorded.
    """

    url: str
    name: str
    size: int | None = None
    hash: str | None = None


class _Broken(Exception):
    """The transfer broke off; what came is kept."""


def fetch(remote: RemoteFile, folder: Path, say: Callable[[str], None], wait: float = 1.0) -> Path:
    """Download a file, or go on with it, unless it is there and right.

    Args:
        remote: address and what is known of the file.
        folder: gets the file, and the record of hashes.
        say: told in one line how the hash was checked.
        wait: seconds before the first new attempt; doubled for each further one.

    Returns:
        The finished file.

    Raises:
        DownloadError: not http(s), refused by the server, no connection in several attempts, wrong size or hash
            (the wrong file is removed).
    """
    if urllib.parse.urlsplit(remote.url).scheme not in ("http", "https"):
        raise DownloadError(f"{remote.url}: only http and https are taken")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / remote.name
    if not target.exists():
        part = folder / f"{remote.name}.part"
        _transfer(remote, part, wait)
        _check(remote, part, folder, say)
        os.replace(part, target)
        _info(part).unlink(missing_ok=True)
    else:
        _check(remote, target, folder, say)
    return target


def _transfer(remote: RemoteFile, part: Path, wait: float) -> None:
    failures = 0
    with tqdm(desc=remote.name, total=remote.size, unit="B", unit_scale=True, dynamic_ncols=True) as progress:
        while True:
            before = _size(part)
            try:
                return _transfer_once(remote, part, progress)
            except (_Broken, OSError, http.client.HTTPException) as error:
                failures = 1 if _size(part) > before else failures + 1
                if failures == ATTEMPTS:
                    raise DownloadError(
                        f"{remote.url}: {error}; {_size(part)} bytes are kept, run the same command again to go on"
                    ) from error
                time.sleep(wait * 2 ** (failures - 1))


def _transfer_once(remote: RemoteFile, part: Path, progress: "tqdm[Any]") -> None:
    start = _size(part)
    validator = _read_json(_info(part)).get("validator") if start else None
    headers = {"User-Agent": "han_arch", "Accept-Encoding": "identity"}
    if start and validator:
        # If-Range: a file that changed meanwhile comes whole instead of from the middle.
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    elif start and remote.hash:
        headers["Range"] = f"bytes={start}-"  # the hash will tell a changed file
    request = urllib.request.Request(remote.url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # more here than there: not the same file
            part.unlink()
            raise _Broken("the server has fewer bytes than are here") from error
        if error.code in FINAL_STATUS:
            raise DownloadError(f"{remote.url}: the server answers {error.code} {error.reason}") from error
        raise
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            start = 0
        length = response.headers.get("Content-Length")
        wanted = start + int(length) if length else None
        if remote.size is not None and wanted is not None and wanted != remote.size:
            raise DownloadError(f"{remote.url}: {wanted} bytes there; {remote.size} were expected")
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):
            _write_json(_info(part), {"validator": validator})
        else:
            _info(part).unlink(missing_ok=True)
        progress.total, progress.n = wanted, start
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    if wanted is not None and _size(part) != wanted:
        raise _Broken(f"the connection broke off after {_size(part)} of {wanted} bytes")


def _check(remote: RemoteFile, file: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Compare size and hash; with no published hash, compare with or write the record of the first use."""
    if remote.size is not None and _size(file) != remote.size:
        got = _size(file)
        file.unlink()
        raise DownloadError(f"{remote.url}: {got} bytes came, {remote.size} were expected; the file was removed")
    record = _read_json(folder / RECORD)
    wanted = remote.hash or record.get(remote.url)
    algorithm = wanted.split(":")[0] if wanted else "sha256"
    got_hash = f"{algorithm}:{_digest(file, algorithm)}"
    if wanted is not None and got_hash != wanted:
        file.unlink()
        first = "" if remote.hash else " (recorded at the first download)"
        raise DownloadError(f"{remote.url}: {got_hash} came, {wanted}{first} was expected; the file was removed")
    if remote.hash:
        say(f"{remote.name}: {got_hash} is the published hash")
    elif wanted:
        say(f"{remote.name}: {got_hash} is the hash recorded at the first download")
    else:
        _write_json(folder / RECORD, record | {remote.url: got_hash})
        say(
            f"{remote.name}: no published hash; {got_hash} recorded in {folder / RECORD}, later downloads must equal it"
        )


def _digest(file: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _info(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_json(path: Path) -> dict[str, str]:
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def _write_json(path: Path, content: dict[str, str]) -> None:
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(json.dumps(content, indent=1), "utf-8")
    os.replace(beside, path)


COUNT_LIMIT = 100_000
RATIO_LIMIT = 200  # images hardly compress; a bomb does, by a thousand and more


class UnsafeArchive(UserError):
    """The archive is damaged or holds what a data set does not; nothing of it was kept."""


def unpack_zip(archive: Path, target: Path, limit: int, members: str | None = None) -> Path:
    """Unpack a zip file into a new folder, which appears only when all of it is there.

    Args:
        archive: the zip file.
        target: the folder that is made. Folders that the archive wraps around all of its files are left out.
        limit: most bytes that all files together may have.
        members: a regular expression; files whose path ends in a match are taken, called what its groups say one
            after the other, and the others are left; None takes all files with their paths.

    Returns:
        `target`.

    Raises:
        UnsafeArchive: not a whole zip file; a path that leaves the target; a link or device; encrypted; two files of
            one name; more files, bytes or compression than the limits; no file.
        FileExistsError: the target is there.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists")
    partial = target.with_name(target.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    try:
        with zipfile.ZipFile(archive) as opened:
            places = _plan(opened, archive, limit, members)
            for info, place in places.items():
                _extract(opened, info, partial / place, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UnsafeArchive(f"{archive} is not a whole zip file: {error}") from error
    except UnsafeArchive:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.replace(partial, target)
    return target


def _plan(
    opened: zipfile.ZipFile, archive: Path, limit: int, members: str | None
) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Where each file goes, after every member has been looked at."""
    infos = opened.infolist()
    if len(infos) > COUNT_LIMIT:
        raise UnsafeArchive(f"{archive} has {len(infos)} members; at most {COUNT_LIMIT} are taken")
    for info in infos:
        fault = _fault(info)
        if fault:
            raise UnsafeArchive(f"{archive}: {info.orig_filename!r} {fault}")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise UnsafeArchive(f"{archive} would unpack to {total} bytes; at most {limit} are taken")
    files = {info: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    if members is not None:
        matches = {info: re.search(f"(?:^|/){members}$", info.filename) for info in files}
        files = {info: PurePosixPath("".join(match.groups())) for info, match in matches.items() if match}
    else:
        files = _unwrapped(files)
    if not files:
        raise UnsafeArchive(f"{archive} has no file of the expected names")
    lower = [str(place).lower() for place in files.values()]
    if len(set(lower)) < len(lower):
        raise UnsafeArchive(f"{archive} has two files of one name")
    return files


def _fault(info: zipfile.ZipInfo) -> str | None:
    # orig_filename: zipfile itself cuts names at NUL and turns backslashes on Windows.
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
        return f"is compressed {info.file_size // max(info.compress_size, 1)} times, as bombs are"
    return None


def _unwrapped(files: dict[zipfile.ZipInfo, PurePosixPath]) -> dict[zipfile.ZipInfo, PurePosixPath]:
    while files and all(len(place.parts) > 1 for place in files.values()):
        if len({place.parts[0] for place in files.values()}) > 1:
            break
        files = {info: PurePosixPath(*place.parts[1:]) for info, place in files.items()}
    return files


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, archive: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    # zipfile checks the CRC at the end of the member.
    with opened.open(info) as source, place.open("wb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > info.file_size:
                raise UnsafeArchive(f"{archive}: {info.filename!r} is longer than it says")
            file.write(chunk)
    if written != info.file_size:
        raise UnsafeArchive(f"{archive}: {info.filename!r} has {written} of {info.file_size} bytes")
