"""Unsafe zip files leave no files: paths outside the target, zip bombs, wrong sizes, damage."""

import os
import shutil
import stat
import sys
import zipfile

import pytest
from fuzzing import archives, trial

from han_arch.errors import UserError
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


ODD = {
    "a file and a folder": (["x/a", "x/a/b"], "both a file and a folder"),
    "a file and a folder in other letters": (["x/A", "x/a/b"], "both a file and a folder"),
    "no name": (["", "a"], "no name"),
    "this folder": ([".", "a"], "no name"),
    "the folder above": (["x/..", "a"], "outside"),
    "long name": (["n" * 300, "a"], "300"),
    "long in bytes": (["\u00fc" * 130, "a"], "260"),
    "long path": (["d/" * 600 + "x", "a"], "1201"),
    "NUL": (["a\0b", "a"], "\\x00"),
    "line break": (["a\nb", "a"], "\\n"),
    "terminal": (["\x1b[2J", "a"], "\\x1b"),
    "stream of Windows": (["x/a:b", "a"], "':'"),
    "device of Windows": (["x/nul.png", "a"], "device"),
    "dot at the end": (["x/a.", "a"], "dot"),
    "twice": (["x/a", "y/../x/a"], "outside"),
    "the same in other letters": (["\u00c9.png", "E\u0301.png", "x/b"], "same name"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", list(ODD))
def test_odd_names_give_one_line_and_leave_nothing(tmp_path, kind):
    names, part = ODD[kind]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, b"data")
    with pytest.raises(UnsafeArchive) as caught:
        unpack_zip(tmp_path / "a.zip", tmp_path / "deep" / "out", LIMIT)
    message = str(caught.value)
    assert str(tmp_path / "a.zip") in message
    assert part in message
    assert message.isprintable()
    assert everything(tmp_path) in (["a.zip"], ["a.zip", "deep"])


@pytest.mark.parametrize(("method", "name"), [(12, "BZIP2"), (14, "LZMA"), (99, "none")])
def test_compression_methods_that_take_much_memory_or_are_unknown(tmp_path, method, name):
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"data"})
    content = bytearray(archive.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 10] = method
    archive.write_bytes(content)
    with pytest.raises(UnsafeArchive, match=f"compression method {method}"):
        unpack_zip(archive, tmp_path / "out", LIMIT)


def test_entries_that_overlap(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", os.urandom(2000))
        for name in ("b.png", "c.png"):  # the same content again
            info = zipfile.ZipInfo(name)
            first = archive.infolist()[0]
            info.header_offset, info.compress_size, info.file_size = 0, first.compress_size, first.file_size
            info.CRC = first.CRC
            archive.filelist.append(info)
            archive.NameToInfo[name] = info
    with pytest.raises(UnsafeArchive, match="overlap"):
        unpack_zip(tmp_path / "a.zip", tmp_path / "out", LIMIT)
    assert everything(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("seed", range(60))
def test_seeded_hostile_archives(tmp_path, seed):
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    path = archives.hostile(trial.generator(seed, "archives", seed), tmp_path / "in")
    archives.check(path, tmp_path / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    archive = make_zip(tmp_path / "a.zip", {"a.png": os.urandom(20_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # a write beyond fails, as on a full disk
    try:
        with pytest.raises(UserError, match=r"could not write .*out: .*free disk space"):
            unpack_zip(archive, tmp_path / "out", LIMIT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert everything(tmp_path) == ["a.zip"]
