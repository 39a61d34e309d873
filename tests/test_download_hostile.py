"""Hostile servers, planted files and damaged records: one line of text, and nothing of the user is lost."""

import contextlib
import json
import os
import random
import socket
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from fuzzing import http, trial
from fuzzing.http import CONTENT, serving

from han_arch import download
from han_arch.download import DownloadError, RemoteFile, fetch
from han_arch.errors import UserError
from han_arch.files import read_mapping

SHA = f"sha256:{sha256(CONTENT).hexdigest()}"
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    monkeypatch.setattr(download, "ATTEMPTS", 2)


def get(folder: Path, *answers: bytes, stall: bool = False, said: list[str] | None = None, **known: object) -> Path:
    with serving(list(answers), stall) as url:
        remote = RemoteFile(f"{url}/file", "file.zip", **known)
        return fetch(remote, folder, (said if said is not None else []).append, wait=0.001)


def answer(*headers: str, status: str = "HTTP/1.1 200 OK", body: bytes = CONTENT) -> bytes:
    return "\r\n".join([status, *headers, "", ""]).encode("latin-1") + body


REFUSED = {
    "text as length": ([answer("Content-Length: ten")], "Content-Length 'ten'"),
    "negative length": ([answer("Content-Length: -5")], "Content-Length '-5'"),
    "huge length": ([answer("Content-Length: " + "9" * 17)], "9" * 17),
    "very many digits": ([answer("Content-Length: " + "9" * 5000)], "Content-Length"),
    "encoding": ([answer("Content-Encoding: gzip")], "Content-Encoding 'gzip'"),
    "no content": ([answer(status="HTTP/1.1 204 Nothing", body=b"")], "204"),
    "empty": ([answer("Content-Length: 0", body=b"")], "no byte"),
    "range unasked": ([answer("Content-Range: bytes 5-6/7", status="HTTP/1.1 206 P", body=b"ab")], "bytes"),
    "wrong range": ([answer("Content-Range: items 7", status="HTTP/1.1 206 P")], "items 7"),
    "old protocol": ([CONTENT], "resume"),
    "no such protocol": ([answer(status="ICY 200 OK")], "ICY 200 OK"),
    "status in other letters": ([answer(status="HTTP/1.1 404 gef\xfcnden \x1b[31m")], "404 gef\xfcnden \\x1b"),
    "no location": ([answer(status="HTTP/1.1 302 Found")], "302"),
    "endless redirects": ([answer("Location: /file", status="HTTP/1.1 302 Found")], "infinite loop"),
    "to a file": ([answer("Location: file:///etc/hostname", status="HTTP/1.1 302 Found")], "file:///etc/hostname"),
    "to ftp": ([answer("Location: ftp://127.0.0.1/x", status="HTTP/1.1 301 Found")], "ftp://127.0.0.1/x"),
    "to nothing": ([answer("Location: http://[", status="HTTP/1.1 307 Found")], "invalid"),
    "too many headers": ([answer(*["X: y"] * 200)], "headers"),
    "long header": ([answer("X: " + "y" * 70_000)], "65536"),
    "cut": ([answer("Content-Length: 10240", body=CONTENT[:-1])], "10239 of 10240"),
    "chunks without a size": ([answer("Transfer-Encoding: chunked", body=b"zz\r\n" + CONTENT)], "resume"),
    "chunk of negative size": ([answer("Transfer-Encoding: chunked", body=b"-1\r\n" + CONTENT)], "resume"),
    "nothing at all": ([b""], "resume"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(REFUSED))
def test_an_odd_answer_gives_one_line(kind: str, tmp_path: Path) -> None:
    answers, part = REFUSED[kind]
    with pytest.raises(DownloadError) as caught:
        get(tmp_path, *answers)
    message = str(caught.value)
    assert message.startswith("http://127.0.0.1:")
    assert part in message
    assert message.isprintable()
    assert not (tmp_path / "file.zip").exists()


def test_redirects_that_are_right(tmp_path: Path) -> None:
    relative = answer("Location: other", status="HTTP/1.1 302 Found", body=b"x" * 100_000)
    assert get(tmp_path, relative, answer("Content-Length: 10240")).read_bytes() == CONTENT


@pytest.mark.parametrize("known", [{"size": 10_000, "hash": SHA}, {}])
def test_a_server_that_never_stops_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: dict) -> None:
    monkeypatch.setattr(download, "SIZE_LIMIT", 10_000)
    with pytest.raises(DownloadError, match=r"more than 10000 bytes.*removed"):
        get(tmp_path, answer(body=CONTENT * 3), **known)
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_of_unknown_size_is_refused_by_its_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SIZE_LIMIT", 10_000)
    with pytest.raises(DownloadError, match=r"10240 bytes; at most 10000"):
        get(tmp_path, answer("Content-Length: 10240"))


@pytest.mark.parametrize("body", [b"", CONTENT[:100]])
def test_a_server_that_stalls(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(DownloadError, match=r"timed out.*resume"):
        get(tmp_path, answer("Content-Length: 10240", body=body), stall=True)
    assert (tmp_path / "file.zip.part").exists() == bool(body)


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", answer("Content-Length: 10240", body=b"")])
def test_a_server_that_sends_a_byte_now_and_then(tmp_path: Path, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte starts the timeout of a socket again; the download stops all the same, in headers and in the file."""
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(start)
            while not ended.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        remote = RemoteFile(f"http://127.0.0.1:{listener.getsockname()[1]}/file", "file.zip")
        began = time.monotonic()
        with pytest.raises(DownloadError, match="seconds"):
            fetch(remote, tmp_path, lambda line: None, wait=0.001)
        assert time.monotonic() < began + 2
        ended.set()


def test_a_cut_answer_without_a_length_is_resumed(tmp_path: Path) -> None:
    rest = answer("Content-Range: bytes 6000-10239/10240", status="HTTP/1.1 206 Partial", body=CONTENT[6000:])
    got = get(tmp_path, answer(body=CONTENT[:6000]), rest, size=10240, hash=SHA)
    assert got.read_bytes() == CONTENT


def test_a_wrong_part_starts_over(tmp_path: Path) -> None:
    """The server sends another range than was asked for. The next attempt begins with the first byte."""
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:5000])
    wrong = answer("Content-Range: bytes 0-10239/10240", status="HTTP/1.1 206 Partial")
    assert get(tmp_path, wrong, answer("Content-Length: 10240"), hash=SHA).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "info", ['{"validator": 5}', '{"validator": "a\\nb"}', "[" * 100_000, "\xff", '["x"]', '{"vali']
)
def test_a_damaged_note_about_the_part(tmp_path: Path, info: str) -> None:
    (tmp_path / "file.zip.part").write_bytes(b"other")
    (tmp_path / "file.zip.part.json").write_bytes(info.encode("latin-1"))
    assert get(tmp_path, answer("Content-Length: 10240")).read_bytes() == CONTENT


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs links and owners")
@pytest.mark.parametrize("name", ["file.zip.part", "file.zip.part.json", "downloads.json"])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "missing"])
def test_links_that_another_user_planted_are_not_written_through(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "mine").write_text("{}")
    folder = tmp_path / "shared"
    folder.mkdir()
    if kind == "hard":
        os.link(tmp_path / "mine", folder / name)
    else:
        (folder / name).symlink_to(tmp_path / ("mine" if kind == "symbolic" else "new"))
    assert get(folder, answer("Content-Length: 10240", 'ETag: "one"')).read_bytes() == CONTENT
    assert (tmp_path / "mine").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "shared"]
    assert not (folder / "file.zip").is_symlink()
    assert len(read_mapping(folder / "downloads.json")) == 1


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners")
def test_a_network_folder_that_gives_files_another_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:5000])
    rest = answer("Content-Range: bytes 5000-10239/10240", status="HTTP/1.1 206 Partial", body=CONTENT[5000:])
    assert get(tmp_path, rest, hash=SHA).read_bytes() == CONTENT


def test_a_file_with_a_published_hash_is_only_read(tmp_path: Path) -> None:
    """A folder with the name of the lock file blocks it, because permissions would not stop root."""
    (tmp_path / ".downloads.json.lock").mkdir()
    (tmp_path / "file.zip").write_bytes(CONTENT)
    assert get(tmp_path, answer(status="HTTP/1.1 404 Not found"), hash=SHA).read_bytes() == CONTENT


def test_a_folder_or_pipe_instead_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "file.zip").mkdir()
    with pytest.raises(DownloadError, match=r"file\.zip must be a file; remove it"):
        get(tmp_path, answer())
    (tmp_path / "file.zip").rmdir()
    (tmp_path / "file.zip.part").mkdir()
    with pytest.raises(UserError, match="could not write"):
        get(tmp_path, answer())


OLD = {f"https://example.org/{number}.zip": f"sha256:{number:064x}" for number in range(5)}
WHOLE = json.dumps(OLD, indent=1).encode()


@pytest.mark.parametrize(
    ("content", "restored"),
    [
        (WHOLE[:-1], 5),
        (WHOLE[: len(WHOLE) // 2], 2),
        (WHOLE + b"\xff\xfe", 5),
        (b"\x00" * 50, 0),
        (b"[" * 100_000, 0),
        (b"[1, 2]", 0),
        (json.dumps(OLD | {"https://example.org/x": 5}).encode(), 5),
        (json.dumps(OLD | {"https://example.org/x": "crc:1"}).encode(), 5),
        (b"", 0),
    ],
)
def test_a_damaged_record_keeps_every_hash(tmp_path: Path, content: bytes, restored: int) -> None:
    record = tmp_path / "downloads.json"
    record.write_bytes(content)
    said: list[str] = []
    get(tmp_path, answer("Content-Length: 10240"), said=said)
    (kept,) = tmp_path.glob("downloads.json.damaged-*")
    assert kept.read_bytes() == content
    assert f"{record} is damaged" in said[0]
    assert f"{restored} hashes" in said[0]
    assert str(kept) in said[0]
    found = read_mapping(record)
    assert SHA in found.values()
    assert {url: digest for url, digest in found.items() if digest != SHA} == dict(list(OLD.items())[:restored])


def test_hashes_of_downloads_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    with serving([answer("Content-Length: 10240")] * 100) as url:
        threads = [
            threading.Thread(
                target=fetch, args=(RemoteFile(f"{url}/{number}", f"{number}.zip"), tmp_path, lambda line: None)
            )
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_mapping(tmp_path / "downloads.json")) == 8


def test_a_full_disk_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(download, "ATTEMPTS", 100)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a write beyond fails, as on a full disk
    try:
        with pytest.raises(UserError, match=r"could not write .*File too large.*resume"):
            get(tmp_path, answer("Content-Length: 10240"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("seed", range(25))
def test_seeded_hostile_servers(seed: int, tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    path = http.hostile(trial.generator(seed, "http", seed), tmp_path / "in")
    http.check(path, tmp_path / "out")


def test_the_generator_is_seeded(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (http.hostile(random.Random(3), tmp_path / name) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
