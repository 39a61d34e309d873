"""Download files, and resume interrupted downloads.

During a download the file is called NAME.part. A complete file is renamed to NAME, and removed if its hash is wrong.
"""

import http.client
import os
import queue
import re
import stat
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from tqdm import tqdm

from han_arch.errors import UserError, printable
from han_arch.files import clear_refusal, json_text, read_mapping, write
from han_arch.remote import DownloadError, RemoteFile, open_verified

CHUNK = 2**20
ATTEMPTS = 6  # consecutive attempts without progress before the download fails
TIMEOUT = 60.0  # seconds to wait for an answer of the server
LEAST_BYTES = 5000  # bytes in TIMEOUT seconds; a slower transfer is interrupted, and a smaller one is no progress
SIZE_LIMIT = 16 * 2**30  # largest download in bytes if its size is not published
RETRIED_STATUS = (408, 425, 429)  # HTTP errors below 500 after which another attempt can succeed
_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:(\d{1,18})|\*)")


def fetch(remote: RemoteFile, folder: Path, say: Callable[[str], None], wait: float = 1.0) -> Path:
    """Download a file as `fetch_opened` does. Return its path."""
    with fetch_opened(remote, folder, say, wait):
        return folder / remote.name


def fetch_opened(remote: RemoteFile, folder: Path, say: Callable[[str], None], wait: float = 1.0) -> BinaryIO:
    """Download a file, or resume its download, and open it. An existing correct file is not downloaded again.

    The opened file is the one whose hash was checked. If no hash is published, this function records the hash of the
    first download and compares later downloads with it. Two processes must not download the same file at the same
    time: the caller holds a lock.

    Args:
        folder: folder for the file and for the record of hashes.
        say: function that gets one line of text, the result of the hash check.
        wait: seconds before the second attempt; the time doubles before each further attempt.

    Raises:
        DownloadError: the address does not begin with http or https; the server refused the request; ATTEMPTS
            consecutive attempts failed; or the size or the hash is wrong. A wrong file is removed.
        UserError: the folder cannot be written, for example because the disk is full.
    """
    if not re.match("https?://", remote.url):
        raise DownloadError(f"{remote.url}: the address must begin with http or https")
    target, part = folder / remote.name, folder / f"{remote.name}.part"
    with clear_refusal(folder, "free disk space or choose another folder; run the command again to resume"):
        folder.mkdir(parents=True, exist_ok=True)
        if not target.is_file():
            if os.path.lexists(target):
                raise DownloadError(f"{target} must be a file; remove it")
            try:
                with _opened_part(part) as file:
                    _Transfer(remote, part, file).run(wait)
            finally:
                if part.is_file() and not part.stat().st_size:
                    part.unlink()
            os.replace(part, target)
            _info(part).unlink(missing_ok=True)
        return open_verified(remote, target, say)


def _opened_part(part: Path) -> BinaryIO:
    """Open the partial file for reading and writing. Replace it if it is a link, or if another user could write to it.

    In a shared folder, another user could have made it.
    """
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):  # not every system has all of them
        flags |= getattr(os, name, 0)
    # Network folders can give this user's files another owner: a new file shows it.
    with tempfile.TemporaryFile(dir=part.parent) as new:
        owner = os.fstat(new.fileno()).st_uid
    if os.path.lexists(part) and not _is_own_file(part.lstat(), owner):
        part.unlink()
        flags |= os.O_EXCL
    file = os.fdopen(os.open(part, flags, 0o644), "r+b")
    if _is_own_file(os.fstat(file.fileno()), owner):
        return file
    file.close()
    raise PermissionError(f"another user has just replaced {part}")


def _is_own_file(status: os.stat_result, owner: int) -> bool:
    return status.st_uid == owner and stat.S_ISREG(status.st_mode) and status.st_nlink == 1


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only, and never from https to http. Do not read the text of a redirect."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        fp.close()  # urllib would read all of it into memory
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https:",) if req.full_url.lower().startswith("https:") else ("https:", "http:")
        if not newurl.lower().startswith(allowed):
            raise urllib.error.HTTPError(req.full_url, code, f"redirect to {newurl}, which is not allowed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Transfer:
    """The transfer of one file into its opened partial file, in one or more attempts."""

    def __init__(self, remote: RemoteFile, part: Path, file: BinaryIO) -> None:
        self.remote, self.part, self.file = remote, part, file
        self.opener = urllib.request.build_opener(_WebRedirects)

    @property
    def size(self) -> int:
        """Number of bytes in the partial file."""
        return os.fstat(self.file.fileno()).st_size

    def run(self, wait: float) -> None:
        """Make attempts until the file is complete; raise DownloadError after ATTEMPTS attempts without progress."""
        failures, most = 0, self.size
        name = printable(self.remote.name)
        with tqdm(desc=name, total=self.remote.size, unit="B", unit_scale=True, dynamic_ncols=True) as progress:
            while True:
                try:
                    return self._attempt(progress)
                except UserError:
                    raise
                except (http.client.InvalidURL, ValueError, ArithmeticError) as error:  # no address, or no number
                    raise self._failure(f"the server's answer is invalid: {error}") from error
                except (OSError, http.client.HTTPException) as error:
                    if self.size >= most + LEAST_BYTES:
                        failures, most = 0, self.size
                    failures += 1
                    if failures == ATTEMPTS:
                        kept = f"{self.size} bytes are kept; run the command again to resume"
                        raise self._failure(f"{error or type(error).__name__}; {kept}") from error
                    time.sleep(wait * 2 ** (failures - 1))

    def _failure(self, why: str) -> DownloadError:
        return DownloadError(f"{printable(self.remote.url)}: {printable(' '.join(why.split()))}")

    def _attempt(self, progress: "tqdm[Any]") -> None:
        start = self.size
        validator = _read_validator(self.part) if start else None
        headers = {"User-Agent": "han_arch", "Accept-Encoding": "identity"}
        if validator:
            # With If-Range, the server sends the complete file if it has changed.
            headers |= {"Range": f"bytes={start}-", "If-Range": validator}
        elif start and self.remote.hash:
            headers["Range"] = f"bytes={start}-"  # if the file on the server has changed, the hash check fails later
        request = urllib.request.Request(self.remote.url, headers=headers)
        try:
            response = _within(TIMEOUT, lambda: self.opener.open(request, timeout=TIMEOUT))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the server's file is shorter than our part, so it is another file
                self._restart("the file on the server is shorter than the downloaded part")
            if error.code < 500 and error.code not in RETRIED_STATUS:
                raise self._failure(f"the server answered {error.code} {error.reason}") from error
            raise
        with response:
            start, wanted = self._examine(response, start if "Range" in headers else 0)
            self._write(response, start, wanted, progress)

    def _examine(self, response: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
        """Check the headers of an answer. Return its first byte and the size of the complete file, None if unknown."""
        if response.status not in (200, 206):
            raise self._failure(f"the server answered {response.status} {response.reason} instead of the file")
        if (encoding := response.headers.get("Content-Encoding") or "identity").lower() != "identity":
            raise self._failure(f"the server sent the file with the unwanted Content-Encoding {encoding!r}")
        length = response.headers.get("Content-Length")
        if response.headers.get("Transfer-Encoding"):
            length = None  # HTTP ignores it
        if length is not None and not re.fullmatch(r"\d{1,18}", length.strip()):
            raise ConnectionError(f"the server sent the invalid Content-Length {length!r}")
        total = None
        if response.status == 206:
            ranges = response.headers.get("Content-Range", "")
            match = _RANGE.fullmatch(ranges.strip())
            if not match or int(match[1]) != start:
                self._restart(f"the server sent the range {ranges!r} instead of the bytes from {start}")
            total = int(match[2]) if match[2] else None
        else:
            start = 0
        wanted = total if length is None else start + int(length)
        if total not in (None, wanted):
            self._restart(f"the server sent {wanted} bytes of {total}")
        if self.remote.size is not None and wanted not in (None, self.remote.size):
            raise self._failure(f"the file on the server has {wanted} bytes instead of {self.remote.size}")
        if self.remote.size is None and (wanted or 0) > SIZE_LIMIT:
            raise self._failure(f"the file has {wanted} bytes; at most {SIZE_LIMIT} are allowed")
        return start, self.remote.size if wanted is None else wanted

    def _write(self, response: http.client.HTTPResponse, start: int, wanted: int | None, progress: "tqdm[Any]") -> None:
        limit = SIZE_LIMIT if wanted is None else wanted
        done = checked = start
        since = time.monotonic()
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        with clear_refusal(self.part, "free disk space; run the command again to resume"):
            self.file.seek(start)
            self.file.truncate()
            if validator and not validator.startswith("W/"):
                write(_info(self.part), json_text({"validator": validator}))
            else:
                _info(self.part).unlink(missing_ok=True)
        progress.total, progress.n = wanted, start
        while chunk := response.read1(CHUNK):
            done += len(chunk)
            if done > limit:
                self._discard()
                raise self._failure(f"the server sent more than {limit} bytes; the file was removed")
            with clear_refusal(self.part, "free disk space; run the command again to resume"):
                self.file.write(chunk)
                self.file.flush()
            progress.update(len(chunk))
            if (now := time.monotonic()) > since + TIMEOUT:
                if done < checked + LEAST_BYTES:
                    raise ConnectionError(f"the server sent only {done - checked} bytes in {now - since:.0f} seconds")
                since, checked = now, done
        if not done:
            raise ConnectionError("the server sent no byte")
        if wanted is not None and done != wanted:
            raise ConnectionError(f"the connection was lost after {done} of {wanted} bytes")

    def _discard(self) -> None:
        self.file.truncate(0)
        _info(self.part).unlink(missing_ok=True)

    def _restart(self, why: str) -> NoReturn:
        """Let the next attempt begin with the first byte."""
        self._discard()
        raise ConnectionError(why)


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return call(), or raise TimeoutError after some seconds. A socket's timeout starts again with each byte."""
    answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"the server did not answer within {seconds:g} seconds") from None
    if error is not None:
        raise error
    return answer


def _info(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_validator(part: Path) -> str | None:
    """Return the ETag or date of the partial file's version on the server; None if it is unknown or unusable."""
    try:
        validator = read_mapping(_info(part)).get("validator")
    except (OSError, ValueError):
        return None
    return validator if isinstance(validator, str) and validator.isascii() and validator.isprintable() else None
