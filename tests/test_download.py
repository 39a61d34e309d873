"""Download from a local server: ranges, lost connections, wrong hashes, status 404, changed files."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from han_arch import download
from han_arch.download import DownloadError, RemoteFile, fetch

CONTENT = bytes(range(256)) * 2000
SHA = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serve `server.content`, also in ranges. Cut each answer after the next number of bytes in `server.cuts`."""

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if self.path != "/file.zip":
            return self.send_error(404)
        if server.refusals:
            return self.send_error(server.refusals.pop(0))
        content, start = server.content, 0
        wanted = self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, server.etag)
        if wanted and server.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content)
        if server.cuts:
            end = min(end, start + server.cuts.pop(0))
        server.sent += end - start  # counted before the client can finish
        self.wfile.write(content[start:end])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.content, running.etag, running.ranges = CONTENT, '"one"', True
        running.cuts, running.refusals, running.requests, running.sent = [], [], [], 0
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.url = f"http://127.0.0.1:{running.server_port}/file.zip"
        yield running
        running.shutdown()
        thread.join()


def get(server, folder, said=None, **known):
    remote = RemoteFile(known.pop("url", server.url), "file.zip", **known)
    return fetch(remote, folder, said.append if said is not None else lambda line: None, wait=0.001)


def test_a_file_with_a_published_hash(server, tmp_path):
    said = []
    file = get(server, tmp_path / "new", said, hash=SHA, size=len(CONTENT))
    assert file.read_bytes() == CONTENT
    assert len(said) == 1
    assert f"file.zip: the hash {SHA}" in said[0]
    assert "published" in said[0]
    assert [path.name for path in file.parent.iterdir()] == ["file.zip"]
    get(server, tmp_path / "new", said, hash=SHA)
    assert len(server.requests) == 1  # the existing file is checked, not downloaded again


def test_cut_connections_are_resumed(server, tmp_path):
    server.cuts = [100_000, 50_000, 200_000]
    assert get(server, tmp_path, hash=SHA).read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=150000-",
        "bytes=350000-",
    ]
    assert server.sent == len(CONTENT)


def test_the_next_call_resumes_a_broken_transfer(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [100_000]
    with pytest.raises(DownloadError, match=r"100000 bytes.*again to resume"):
        get(server, tmp_path)
    assert not (tmp_path / "file.zip").exists()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1]["Range"] == "bytes=100000-"
    assert server.requests[1]["If-Range"] == '"one"'


def test_a_changed_file_is_downloaded_from_its_start(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [100_000]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("lacking", ["ranges", "validator"])
def test_servers_without_ranges_or_validators_start_over(server, tmp_path, lacking):
    server.cuts = [100_000]
    if lacking == "ranges":
        server.ranges = False
    else:
        server.etag = None
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == len(CONTENT) + 100_000


def test_a_known_hash_allows_resuming_without_validator(server, tmp_path):
    server.etag, server.cuts = None, [100_000]
    assert get(server, tmp_path, hash=SHA).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_part_longer_than_the_remote_file_starts_over(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.zip.part.json").write_text(json.dumps({"validator": '"one"'}))
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_temporary_server_errors_are_retried(server, tmp_path):
    server.refusals = [503, 500]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_server_without_a_byte_fails_after_all_attempts(server, tmp_path):
    server.cuts = [0] * 20
    with pytest.raises(DownloadError, match="again to resume"):
        get(server, tmp_path)
    assert len(server.requests) == download.ATTEMPTS


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"hash": "sha256:" + "0" * 64}, f"{SHA}.*sha256:0+.*removed"),
        ({"hash": "md5:" + "0" * 32}, "md5:[0-9a-f]{32}.*md5:0+.*removed"),
        ({"size": 17}, f"{len(CONTENT)} bytes instead of 17"),
    ],
)
def test_wrong_hash_or_size_leaves_no_file(server, tmp_path, known, message):
    with pytest.raises(DownloadError, match=message):
        get(server, tmp_path, **known)
    assert not list(tmp_path.glob("file.zip"))
    assert not list(tmp_path.glob("*.part"))


def test_the_first_hash_is_recorded_and_later_downloads_must_match(server, tmp_path):
    said = []
    get(server, tmp_path, said).unlink()
    assert "no published hash" in said[0]
    assert json.loads((tmp_path / "downloads.json").read_text()) == {server.url: SHA}
    get(server, tmp_path, said).unlink()
    assert SHA in said[1]
    assert "recorded" in said[1]
    server.content, server.etag = CONTENT[::-1], '"two"'
    with pytest.raises(DownloadError, match=rf"recorded.*{SHA}.*removed"):
        get(server, tmp_path)
    assert not (tmp_path / "file.zip").exists()


def test_404_fails_at_once(server, tmp_path):
    with pytest.raises(DownloadError, match="404"):
        get(server, tmp_path, url=server.url.replace("file", "none"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "/etc/hostname"])
def test_only_http_is_accepted(server, tmp_path, url):
    with pytest.raises(DownloadError, match="http"):
        get(server, tmp_path, url=url)
