"""Fetches files: goes on after a broken transfer, checks size and hash, and finishes atomically.

A file in transfer is called NAME.part; NAME exists only when all of it is there and its hash is right.
"""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
