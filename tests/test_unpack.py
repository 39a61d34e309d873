"""Zip files that try to escape, bomb or cheat leave nothing behind."""

import stat
import zipfile

import pytest

from han_arch.download import UnsafeArchive, unpack_zip

LIMIT = 10_000_000


def make_zip(path, members, **more):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data, **more)
    return path


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_wrapping_folders_are_left_out(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"DIV2K/": b"", "DIV2K/X4/1.png": b"one", "DIV2K/X4/2.png": b"two"})
    target = unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(target) == ["1.png", "2.png"]
    assert (target / "2.png").read_bytes() == b"two"


def test_chosen_members_are_renamed(tmp_path):
    names = ["Set5/image_SRF_2/img_001_SRF_2_HR.png", "Set5/image_SRF_2/img_001_SRF_2_LR.png", "x/image_SRF_4/a.png"]
    archive = make_zip(tmp_path / "a.zip", dict.fromkeys(names, b"data"))
    target = unpack_zip(archive, tmp_path / "out", LIMIT, r"image_SRF_2/(img_\d+)_SRF_2_HR(\.png)")
    assert everything(target) == ["img_001.png"]


@pytest.mark.parametrize(
    "name",
    ["../escape.png", "a/../../escape.png", "/etc/escape.png", "..\\escape.png", "C:/escape.png", "C:escape.png"],
)
def test_paths_that_leave_the_target(tmp_path, name):
    archive = make_zip(tmp_path / "a.zip", {"good.png": b"data", name: b"data"})
    with pytest.raises(UnsafeArchive, match="outside the target"):
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
    with pytest.raises(UnsafeArchive, match="as bombs are"):
        unpack_zip(bomb, tmp_path / "out", LIMIT)
    large = make_zip(tmp_path / "large.zip", {"a.png": b"data" * 100})
    with pytest.raises(UnsafeArchive, match="unpack to 400 bytes; at most 399"):
        unpack_zip(large, tmp_path / "out", 399)
    assert everything(tmp_path) == ["bomb.zip", "large.zip"]


def test_a_member_that_is_longer_than_it_says(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data" * 1000})
    content = bytearray(archive.read_bytes())
    at = content.rindex(b"PK\x01\x02") + 24  # the size in the central directory
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
    with pytest.raises(UnsafeArchive, match="not a whole zip file"):
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
    with pytest.raises(UnsafeArchive, match="two files of one name"):
        unpack_zip(same, tmp_path / "out", LIMIT)


def test_nothing_of_the_expected_names_and_a_target_that_is_there(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data"})
    with pytest.raises(UnsafeArchive, match="no file of the expected names"):
        unpack_zip(archive, tmp_path / "out", LIMIT, r"(\d+)\.png")
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        unpack_zip(archive, tmp_path / "out", LIMIT)
    assert everything(tmp_path / "out") == []


def test_the_rest_of_an_earlier_attempt_is_cleared(tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "half.png").write_bytes(b"ha")
    unpack_zip(make_zip(tmp_path / "a.zip", {"a.png": b"data"}), tmp_path / "out", LIMIT)
    assert everything(tmp_path / "out") == ["a.png"]
    assert not (tmp_path / "out.partial").exists()
