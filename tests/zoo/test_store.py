"""`load_model(NAME)` and `basicsr zoo fetch`, with a real server and good, incomplete or wrong files."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_server import Server, serving

from han_arch import HAN, cli, download, load_model
from han_arch.errors import UserError
from han_arch.evaluation import contestants
from han_arch.files import CACHE_VARIABLE, cache_folder, hash_file
from han_arch.speed.precision import PRECISIONS
from han_arch.training.resume import check_pretrained
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.entry import Entry
from han_arch.zoo.read import read_header

ARGUMENTS = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4,
             "upscale": 2}  # fmt: skip


@pytest.fixture
def net() -> HAN:
    torch.manual_seed(0)
    return HAN(**ARGUMENTS).eval()


@pytest.fixture
def server(net: HAN, tmp_path: Path):
    """Run a server with one weight file."""
    folder = tmp_path / "served"
    folder.mkdir()
    weights = store.Weights(net.state_dict(), {"type": "HAN", **ARGUMENTS}, {"name": "tiny-x2"})
    store.write_named(weights, folder, "tiny-x2")
    with serving(folder) as running:
        yield running


@pytest.fixture
def entry(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """Make a table with one entry, with its file on the server; the cache folder is new."""
    file = next(server.folder.iterdir())
    made = replace(
        table.ENTRIES[0], name="tiny-x2", arguments=ARGUMENTS, file=file.name, url=f"{server.url}/{file.name}",
        sha256=hash_file(file), size=file.stat().st_size, how_to_get="",
    )  # fmt: skip
    put(monkeypatch, made)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    real = download.fetch
    monkeypatch.setattr(download, "fetch", lambda remote, folder, say: real(remote, folder, say, wait=0.001))
    return made


def put(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    monkeypatch.setattr(table, "ENTRIES", entries)


def assert_same_network(one: HAN, other: HAN) -> None:
    lq = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(one(lq), other(lq), rtol=0, atol=1e-6)


def test_a_name_is_downloaded_once_with_a_log_line(
    entry: Entry, net: HAN, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "han_arch"):
        assert_same_network(load_model("tiny-x2"), net)
    assert f"downloading tiny-x2 from {entry.url}" in caplog.text
    server.shutdown()
    server.server_close()
    caplog.clear()
    assert_same_network(load_model("tiny-x2"), net)
    assert len(server.ranges) == 1
    assert not caplog.records


def test_a_broken_transfer_is_resumed(
    entry: Entry, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cuts = [5000]
    assert cli.main(["zoo", "fetch", "tiny-x2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "5000 bytes" in error
    assert not (tmp_path / "cache" / entry.file).exists()
    assert cli.main(["zoo", "fetch", "tiny-x2"]) == 0
    assert server.ranges == [None, "bytes=5000-"]
    assert capsys.readouterr().out == f"{tmp_path / 'cache' / entry.file}\n"
    assert hash_file(tmp_path / "cache" / entry.file) == entry.sha256


def test_a_wrong_file_is_refused_and_removed(
    entry: Entry, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = server.folder / entry.file
    served.write_bytes(served.read_bytes()[:-1] + b"x")
    assert cli.main(["zoo", "fetch", "tiny-x2"]) == 2
    error = capsys.readouterr().err
    assert f"sha256:{entry.sha256}" in error
    assert "removed" in error
    assert not list((tmp_path / "cache").glob("tiny*"))


def test_without_a_server_there_is_one_line(
    entry: Entry, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=f"{entry.url}: .*refused"):
        load_model("tiny-x2")
    assert cli.main(["zoo", "fetch", "tiny-x2"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_damaged_cached_file_is_downloaded_again(
    entry: Entry, net: HAN, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / entry.file).write_bytes(b"damaged")
    assert_same_network(load_model("tiny-x2"), net)
    assert f"{tmp_path / 'cache' / entry.file} is damaged" in caplog.text


def test_a_file_that_is_replaced_after_its_check_is_refused(
    entry: Entry, net: HAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user of the cache folder replaces the file between the check of its hash and the reading."""
    real = store.obtain

    def exchange(entry: Entry, say: Callable[[str], None]) -> Path:
        path = real(entry, say)
        other = store.Weights({key: value + 1 for key, value in net.state_dict().items()}, ARGUMENTS, {})
        path.write_bytes(store.as_bytes(other))
        return path

    monkeypatch.setattr(store, "obtain", exchange)
    with pytest.raises(UserError, match=rf"{entry.file} changed while it was read; run the command again"):
        load_model("tiny-x2")
    with pytest.raises(UserError, match="changed while it was read"):
        contestants.build("tiny", {"zoo": "tiny-x2"}, 2, torch.device("cpu"))
    with pytest.raises(UserError, match="changed while it was read"):
        check_pretrained({"path": {"pretrain_network_g": "tiny-x2"}})


def test_an_unwritable_cache_is_reported(entry: Entry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder with the name of the lock file blocks it, because permissions would not stop root."""
    (tmp_path / "cache" / f".{entry.file}.lock").mkdir(parents=True)
    assert cli.main(["zoo", "fetch", "tiny-x2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"could not write {tmp_path / 'cache'}: " in error
    assert CACHE_VARIABLE in error


def test_parallel_downloads_share_one_transfer(entry: Entry, server: Server, tmp_path: Path) -> None:
    """Threads, each with its own lock, simulate the processes of one training."""
    with ThreadPoolExecutor(4) as pool:
        got = set(pool.map(lambda _: store.obtain(entry, lambda line: None), range(4)))
    assert got == {tmp_path / "cache" / entry.file}
    assert len(server.ranges) == 1


def test_the_packages_file_comes_first_and_must_be_right(
    entry: Entry, net: HAN, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "package")
    (tmp_path / "package").mkdir()
    shipped = tmp_path / "package" / entry.file
    shipped.write_bytes((server.folder / entry.file).read_bytes())
    put(monkeypatch, replace(entry, url=None))
    assert_same_network(load_model("tiny-x2"), net)
    assert not server.ranges
    assert not (tmp_path / "cache").exists()
    shipped.write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"is damaged.* install the package again"):
        load_model("tiny-x2")
    shipped.unlink()
    with pytest.raises(UserError, match=r"is missing.* install the package again"):
        load_model("tiny-x2")


def test_names_and_paths_are_distinguished(
    entry: Entry, net: HAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"'tiny-x4'.* tiny-x2"):
        load_model("tiny-x4")
    with pytest.raises(FileNotFoundError, match=r"no such checkpoint: tiny-x4\.pth"):
        load_model("tiny-x4.pth")
    other = HAN(**{**ARGUMENTS, "upscale": 3})
    torch.save(other.state_dict(), tmp_path / "tiny-x2")
    assert load_model("tiny-x2").upscale == 2  # the entry, although the current folder contains a file of this name
    assert load_model("./tiny-x2").upscale == 3
    (tmp_path / "mine").write_bytes((tmp_path / "tiny-x2").read_bytes())
    assert load_model("mine").upscale == 3


def test_weights_of_unknown_hash_need_a_manual_download() -> None:
    with pytest.raises(UserError, match=r"download BIX4 from https://drive\.google\.com"):
        load_model("han-authors-bix4")


def test_the_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == tmp_path / "han_arch"
    monkeypatch.setattr("sys.platform", "win32")
    assert cache_folder() == tmp_path / "local" / "han_arch"
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_a_file_alone_builds_the_right_network(tmp_path: Path) -> None:
    arguments = {**ARGUMENTS, "img_range": 1.0, "rgb_mean": [0.1, 0.2, 0.3], "lam_form": "paper", "res_scale": 0.5}
    torch.manual_seed(1)
    net = HAN(**arguments).eval()
    weights = store.Weights(net.state_dict(), {"type": "HAN", **arguments}, {"licence": "é"})
    path = store.write_named(weights, tmp_path, "odd-x2")
    assert store.hash_in_name(path) == hash_file(path)[:8]
    assert_same_network(load_model(path), net)
    header = read_header(path)
    assert header["normalisation"] == {"input": "RGB, [0, 1]", "rgb_mean": [0.1, 0.2, 0.3], "img_range": 1.0}
    assert header["provenance"] == {"licence": "é"}
    half = store.write_named(weights, tmp_path, "half-x2", PRECISIONS["fp16"])
    assert half.stat().st_size < 0.7 * path.stat().st_size
    lq = torch.rand(1, 3, 7, 6)
    with torch.no_grad():
        torch.testing.assert_close(load_model(half)(lq), net(lq), rtol=0, atol=5e-3)


def test_equal_contents_are_equal_bytes_in_every_process(net: HAN, tmp_path: Path) -> None:
    code = (
        "import hashlib, torch\nfrom han_arch import HAN\nfrom han_arch.zoo import store\n"
        f"torch.manual_seed(0)\narguments = {json.dumps(ARGUMENTS)}\n"
        "weights = store.Weights(HAN(**arguments).state_dict(), {'type': 'HAN', **arguments}, {'a': 1, 'b': 2})\n"
        "print(hashlib.sha256(store.as_bytes(weights)).hexdigest())"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    weights = store.Weights(net.state_dict(), {"type": "HAN", **ARGUMENTS}, {"b": 2, "a": 1})
    (tmp_path / "here").write_bytes(store.as_bytes(weights))
    assert f"{hash_file(tmp_path / 'here')}\n" == elsewhere
