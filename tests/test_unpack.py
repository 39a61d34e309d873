"""Unsafe zip files leave no files: paths outside the target, zip bombs, wrong sizes, damage."""

import os
import shutil
import stat
import sys
import zipfile

import pytest

from han_arch.unpack import UnsafeArchive, unpack_zip

LIMIT = 10_000_000


def make_zip(path, members, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data, **more)
    return path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_wrapping_folders_are_removed(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"DIV2K/": b"", "DIV2K/X4/1.png": b"one", "DIV2K/X4/2.png": b"two"})
    target = tmp_path / "out"
    unpack_zip(archive, target, LIMIT)
    assert everything(target) == ["1.png", "2.png"]
    assert (target / "2.png").read_bytes() == b"two"


def test_chosen_members_are_renamed(tmp_path):
    names = ["Set5/image_SRF_2/img_001_SRF_2_HR.png", "Set5/image_SRF_2/img_001_SRF_2_LR.png", "x/image_SRF_4/a.png"]
    archive = make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"data"))
    unpack_zip(archive, tmp_path / "out", LIMIT, r"image_SRF_2/(img_\d+)_SRF_2_HR(\.png)")
    assert everything(tmp_path / "out") == ["img_001.png"]


@pytest.mark.parametrize(
    "name",
    ["../escape.png", "a/../../escape.png", "/etc/escape.png", "..\\escape.png", "C:/escape.png", "C:escape.png"],
)
def test_paths_that_leave_the_target(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.png": b"data", name: b"data"})
    with pytest.raises(UnsafeArchive, match="outside"):
        unpack_zip(archive, tmp_path / "deep" / "out", LIMIT)
    assert everything(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    info = zipfile.ZipInfo("link.png")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.png", b"data")
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="link or a device"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out", LIMIT)
    assert everything(tmp_path) == ["a.zip"]


def test_bombs_and_oversized_archives(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", {"a.png": b"\0" * 5_000_000})
    with pytest.raises(UnsafeArchive, match="zip bomb"):
        unpack_zip(bomb, tmp_path / "out", LIMIT)
    large = make_zip(tmp_path / "large.zip", {"a.png": b"data" * 100})
    with pytest.raises(UnsafeArchive, match=r"400 bytes.*399"):
        unpack_zip(large, tmp_path / "out", 399)
    assert everything(tmp_path) == ["bomb.zip", "large.zip"]


def test_a_member_longer_than_its_entry(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data" * 1000})
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24  # position of the size in the central directory
    content[at : at + 4] = (4).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(UnsafeArchive):
        unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damaged_archives_leave_nothing(tmp_path, damage):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"one" * 100, "b.png": bytes(range(256)) * 50})
    content = bytearray(archive.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[content.index(b"b.png") + 20] ^= 0xFF
    else:
        content = bytearray(b"<html>moved</html>")
    archive.write_bytes(content)
    with pytest.raises(UnsafeArchive, match=r"a\.zip is damaged"):
        unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(tmp_path) == ["a.zip"]


def test_encrypted_members_and_equal_names(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data"})
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(UnsafeArchive, match="encrypted"):
        unpack_zip(archive, tmp_path / "out", LIMIT)
    same = make_zip(tmp_path / "same.zip", {"a.png": b"one", "A.png": b"two"})
    with pytest.raises(UnsafeArchive, match="two files"):
        unpack_zip(same, tmp_path / "out", LIMIT)


def test_no_expected_names_and_an_existing_target(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data"})
    with pytest.raises(UnsafeArchive, match="expected files"):
        unpack_zip(archive, tmp_path / "out", LIMIT, r"(\d+)\.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(tmp_path / "out") == []


def test_leftovers_of_an_interrupted_run_are_removed(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"a", "b.png": b"b"})
    (tmp_path / ".out.b.12345678.part").mkdir()  # another folder's
    with monkeypatch.context() as killed:
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        killed.setattr(os, "rename", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            unpack_zip(archive, tmp_path / "out", LIMIT)
    assert len(everything(tmp_path)) == 5
    unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(tmp_path) == [".out.b.12345678.part", "a.zip", "out", "out/a.png", "out/b.png"]
