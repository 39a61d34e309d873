"""The records of the benchmark sets: they match the real sets, and they find faults. Downloads from a local server."""

import io
import shutil
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pictures import make_picture, write_image

from han_arch.cli import main
from han_arch.data import benchmarks
from han_arch.data.benchmarks import (
    BENCHMARKS,
    DIV2K_MD5,
    Archive,
    archives_of,
    compare_with_benchmark,
    div2k_archives,
    obtain,
)
from han_arch.download import DownloadError, RemoteFile
from han_arch.errors import UserError
from han_arch.images.read import list_files, read_image


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_the_sets_match_their_records(shared_data, name):
    notes, faults = compare_with_benchmark(name, shared_data / "benchmarks" / name / "HR")
    assert faults == []
    assert notes[0].startswith(f"{name}: every pixel")


def test_mod_cropped_copies_fit_and_differ_from_the_originals(shared_data, tmp_path):
    for file in list_files(shared_data / "benchmarks" / "Set14" / "HR"):
        image = read_image(file)
        write_image(tmp_path / file.name, image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12].copy())
    notes, faults = compare_with_benchmark("Set14", tmp_path)
    assert faults == []
    assert "pixels differ" in notes[0]


def test_missing_wrong_and_coloured_files_are_found(shared_data, tmp_path, capsys):
    shutil.copytree(shared_data / "benchmarks" / "Set14" / "HR", tmp_path / "HR")
    write_image(tmp_path / "HR" / "img_001.png", make_picture(100, 100, 0))
    grey = read_image(tmp_path / "HR" / "img_003.png")
    write_image(tmp_path / "HR" / "img_003.png", grey[:, :, None].repeat(3, axis=2))
    (tmp_path / "HR" / "img_014.png").unlink()
    assert main(["data", "verify", str(tmp_path / "HR"), "--benchmark", "Set14", "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    for fault in (
        "13 images; Set14 has 14",
        "img_001.png is 100x100; in Set14, this image is 500x480",
        "img_003.png is in colour",
    ):
        assert fault in printed


def test_half_size_hr_of_b100_is_found(tmp_path):
    for number in range(100):
        write_image(tmp_path / f"{number:03d}.png", make_picture(160, 240, 0))
    _, faults = compare_with_benchmark("B100", tmp_path)
    assert len(faults) == 100


def test_every_record_names_licence_and_traps():
    assert set(BENCHMARKS) == {"Set5", "Set14", "B100", "Urban100", "Manga109", "DIV2K100"}
    assert all(row.licence and row.source and row.notes for row in BENCHMARKS.values())
    with pytest.raises(UserError, match="benchmark set 'Set6'; did you mean Set"):
        compare_with_benchmark("Set6", None)


@pytest.fixture
def serve(tmp_path):
    """A function (name, content) that serves a file from this machine and returns its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, directory=str(folder), **more)

        def log_message(self, *_):
            pass

    def add(name: str, content: bytes) -> str:
        (folder / name).write_bytes(content)
        return f"http://127.0.0.1:{server.server_port}/{name}"

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield add
        server.shutdown()
        thread.join()


def zip_of(names) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, name.encode())
    return buffer.getvalue()


def test_an_archive_becomes_a_folder_and_is_not_fetched_again(serve, tmp_path, monkeypatch):
    url = serve("a.zip", zip_of(["DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_train_LR_bicubic/X4/0002x4.png"]))
    archive = Archive(RemoteFile(url, "a.zip"), "DIV2K/X4", 2, 10**6)
    said = []
    folder = obtain(archive, tmp_path / "out", False, said.append)
    assert sorted(path.name for path in folder.iterdir()) == ["0001x4.png", "0002x4.png"]
    assert [path.name for path in (tmp_path / "out" / "downloads").iterdir()] == ["downloads.json"]
    assert "no published hash" in said[0]
    (tmp_path / "served" / "a.zip").unlink()
    monkeypatch.setattr(benchmarks, "held", None)  # a finished folder may be in a place that cannot be written to
    assert obtain(archive, tmp_path / "out", False, said.append) == folder


def test_the_archive_that_was_checked_is_unpacked(serve, tmp_path):
    """Another user of the folder replaces the archive after the check of its hash."""
    planted = tmp_path / "planted.zip"
    planted.write_bytes(zip_of(["bad.png"]))
    archive = Archive(RemoteFile(serve("a.zip", zip_of(["1.png"])), "a.zip"), "few", 1, 10**6)

    def exchange(line: str) -> None:
        if "hash" in line:
            planted.replace(tmp_path / "out" / "downloads" / "a.zip")

    folder = obtain(archive, tmp_path / "out", False, exchange)
    assert [path.name for path in folder.iterdir()] == ["1.png"]
    assert not planted.exists()


def test_selfexsr_archives_give_the_hr_images_only(serve, tmp_path, monkeypatch, capsys):
    names = [f"Set5/image_SRF_{s}/img_00{n}_SRF_{s}_{k}.png" for s in (2, 4) for n in range(1, 6) for k in ("HR", "LR")]
    remote = RemoteFile(serve("Set5.zip", zip_of(names)), "Set5.zip")
    members = archives_of("Set5", [], [])[0].members
    monkeypatch.setitem(BENCHMARKS, "Set5", replace(BENCHMARKS["Set5"], download=(remote, members)))
    assert main(["data", "download", "Set5", "-o", str(tmp_path / "out")]) == 0
    files = sorted((tmp_path / "out" / "Set5" / "HR").iterdir())
    assert [path.name for path in files] == [f"img_00{n}.png" for n in range(1, 6)]
    assert files[0].read_bytes() == b"Set5/image_SRF_2/img_001_SRF_2_HR.png"


def test_wrong_number_of_images_is_refused(serve, tmp_path):
    archive = Archive(RemoteFile(serve("a.zip", zip_of(["1.png"])), "a.zip"), "few", 2, 10**6)
    with pytest.raises(DownloadError, match="has 1 images instead of 2"):
        obtain(archive, tmp_path / "out", False, lambda line: None)


def test_an_escaping_archive_leaves_nothing(serve, tmp_path, monkeypatch, capsys):
    remote = RemoteFile(serve("a.zip", zip_of(["1.png", "../../escape.png"])), "a.zip")
    monkeypatch.setitem(BENCHMARKS, "Set5", replace(BENCHMARKS["Set5"], download=(remote, None)))
    assert main(["data", "download", "Set5", "-o", str(tmp_path / "out")]) == 2
    assert "outside the target" in capsys.readouterr().err
    assert not list(tmp_path.rglob("escape.png"))
    assert not (tmp_path / "out" / "Set5" / "HR").exists()


def test_div2k_is_complete():
    table = div2k_archives([2, 3, 4, 8], ["train", "valid"])
    assert len(table) == 10
    assert len({archive.remote.hash for archive in table}) == len({archive.folder for archive in table}) == 10
    assert {archive.remote.url.rpartition("/")[2] for archive in table} == {f"{n}.zip" for n in DIV2K_MD5}
    assert {archive.folder: archive.images for archive in table}["DIV2K/DIV2K_valid_LR_x8"] == 100


def test_sets_without_a_download_name_the_remedy(capsys):
    with pytest.raises(UserError, match=r"DIV2K, Set5, Set14, B100, Urban100.*http.*manga109"):
        archives_of("Manga109", [], [])
    assert main(["data", "download", "Sett5"]) == 2
    assert "did you mean Set5?" in capsys.readouterr().err
    assert main(["data", "download", "Nothing"]) == 2
    assert "known: B100, DIV2K, Set14, Set5, Urban100" in capsys.readouterr().err
    assert main(["data", "download", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("Set5: 5 images", "Manga109: 109 images", "DIV2K100", "licence: "))
