"""Hostile web servers: odd status lines and headers, wrong lengths and ranges, redirects, cuts, and stalls.

An input is a JSON file with a list of answers. The server sends one answer for each request, and the last one again
when the list is at its end. "URL" in an answer becomes the address of the server.
"""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from fuzzing import trial
from fuzzing.damage import damaged

CONTENT = bytes(range(256)) * 40
_LENGTHS = ("", "-1", "0", "1", "10240", "+10240", "10241", "99999999999999999999", "9" * 5000, "ten", "1e4", "0x2800")
_RANGES = ("", "bytes", "bytes 0-", "bytes 100-10239/10240", "bytes 5000-10239/10240", "bytes 5000-10239/*",
    "bytes -1-5/3", "items 0-1/2", "bytes 5000-10239/99", "bytes " + "9" * 5000 + "-1/2")  # fmt: skip
_PLACES = ("URL/file", "/file", "file", "", "file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x", "http://[",
    "//", "http://", "http:///x", "data:,x", "javascript:1", "URL/\u00e9 x", "http://127.0.0.1:99999/",
    "URL/\r\nX: y")  # fmt: skip
_STATUSES = ("200", "204 No", "301 M", "303 S", "307 T", "404 Not\u00f6", "416 Range", "429 Wait", "500 \x1b[31m",
    "999 X", "-1 X", "abc", "", "100 Continue", "2000 X")  # fmt: skip
_ETAGS = ('"one"', 'W/"one"', "", "\x1b[2J", "\u00e9", "x" * 70000, '"a\r\nb"')


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write the answers of a server; return the path of their file."""
    path = folder / "answers.json"
    answers = [_answer(rng).decode("latin-1") for _ in range(rng.choice((1, 1, 2, 3)))]
    path.write_text(json.dumps({"answers": answers, "stall": rng.randrange(40) == 0, "hash": rng.randrange(2)}))
    return path


def _answer(rng: random.Random) -> bytes:
    status = rng.choice(("200 OK", "200 OK", "206 Partial Content", "302 Found", rng.choice(_STATUSES)))
    headers = []
    if rng.randrange(2):
        headers.append(f"Content-Length: {rng.choice(_LENGTHS)}")
    if status.startswith("206") or rng.randrange(8) == 0:
        headers.append(f"Content-Range: {rng.choice(_RANGES)}")
    if status[:1] == "3":
        headers += [f"Location: {rng.choice(_PLACES)}"] * rng.randrange(3)
    if rng.randrange(3) == 0:
        headers.append(f"ETag: {rng.choice(_ETAGS)}")
    if rng.randrange(8) == 0:
        headers.append(f"Content-Encoding: {rng.choice(('gzip', 'identity', 'br', 'x'))}")
    body = rng.choice((CONTENT, CONTENT, CONTENT[:5000], CONTENT[5000:], b"", CONTENT * 3))
    if rng.randrange(8) == 0:
        headers.append("Transfer-Encoding: chunked")
        size = rng.choice(("2800", "-1", "fffffffffff", "zz", "", "0", "1;x=y"))
        body = f"{size}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    headers += ["X: y"] * rng.choice((0, 0, 0, 0, 150))
    version = rng.choice(("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2", "ICY", ""))
    answer = "\r\n".join([f"{version} {status}", *headers, "", ""]).encode("latin-1", "replace") + body
    return damaged(rng, answer, CONTENT) if rng.randrange(3) == 0 else answer


@contextlib.contextmanager
def serving(answers: list[bytes], stall: bool = False) -> Iterator[str]:
    """Run a server that sends raw answers; yield its address. With `stall`, it keeps each connection open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended, waiting = threading.Event(), list(answers)

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    connection.settimeout(1)
                    connection.recv(65536)
                    answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                    connection.sendall(answer.replace(b"URL", url.encode()))
                    if stall:
                        ended.wait(0.5)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield url
        ended.set()
        with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), 1):
            pass
        thread.join(2)


def check(path: Path, out: Path) -> str:
    """Download a file from the server, in a folder that has a file of the user. No more than the limit may be left."""
    from han_arch import download

    plan = json.loads(path.read_text())
    (out / trial.MINE).write_text("mine")
    digest = f"sha256:{sha256(CONTENT).hexdigest()}"
    small = patch.multiple(download, TIMEOUT=0.3, ATTEMPTS=3, SIZE_LIMIT=20_000)
    with small, serving([answer.encode("latin-1") for answer in plan["answers"]], plan["stall"]) as url:
        known = {"hash": digest, "size": len(CONTENT)} if plan["hash"] else {}
        remote = download.RemoteFile(f"{url}/file", "file.zip", **known)
        before = trial.contents(path.parent)
        outcome = trial.called(
            lambda: download.fetch(remote, out, lambda line: None, wait=0.001), refusals=(download.DownloadError,)
        )
    if trial.contents(path.parent) != before or (out / trial.MINE).read_text() != "mine":
        raise trial.Finding("a file of the user was changed")
    sizes = {file.name: file.stat().st_size for file in out.iterdir()}
    if max(size for name, size in sizes.items() if not name.endswith(".json")) > 20_000:
        raise trial.Finding(f"more than the limit was kept: {sizes}")
    if outcome == "read" and plan["hash"] and (out / "file.zip").read_bytes() != CONTENT:
        raise trial.Finding("a wrong file passed")
    wrong = set(sizes) - {trial.MINE, "file.zip", "file.zip.part", "file.zip.part.json", "downloads.json"}
    if wrong or (outcome == "refused" and "file.zip" in sizes):
        raise trial.Finding(f"left: {sorted(sizes)}")
    return outcome
