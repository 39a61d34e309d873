"""`basicsr upscale` names what it leaves out of a folder, and one file that fails never stops the others."""

import os
import re
import socket
import tempfile
from pathlib import Path

import pytest
from known_engines import photo
from PIL import Image

from han_arch.cli import main
from han_arch.inference import files as upscaling

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with one valid photo, in/good.png."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(photo(12, 16)).save("in/good.png")
    return tmp_path


def upscale(checkpoint: Path, *words: str) -> int:
    return main(["upscale", *(words or ("in",)), "-o", "out", "--model", str(checkpoint)])


def results() -> set[str]:
    return {str(path.relative_to("out")) for path in Path("out").rglob("*") if path.is_file()}


def test_a_phone_s_folder(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/below").mkdir()
    for name in ("IMG_1.HEIC", "below/IMG_2.HEIC", "IMG_3.heic"):
        Path("in", name).write_bytes(HEIC)
    picture = Image.new("RGB", (8, 8))
    picture.save("in/b.gif")
    picture.save("in/c.tga")
    assert upscale(tiny_checkpoint) == 1
    error = capsys.readouterr().err
    assert re.search(r"left out 3 \(2 \.HEIC, 1 \.heic; first: in/IMG_1\.HEIC\): HEIC is not supported.*PNG", error)
    assert re.search(r"left out in/b\.gif: GIF is not supported", error)
    assert re.search(r"left out in/c\.tga: TGA is not supported", error)
    assert results() == {"good.png"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("holiday", b"\xff\xd8\xff\xe0" + bytes(40), ["JPEG content", "rename to .jpg"]),
        ("holiday.dat", HEIC, ["HEIC is not supported"]),
        ("raw.NEF", b"II*\0" + bytes(40), ["NEF is not supported"]),
        ("no.txt", b"RIFF1234WEBPVP8 ", ["WebP content", "rename to .webp"]),
        ("empty.avif", b"", ["AVIF is not supported"]),
    ],
)
def test_images_are_known_by_suffix_and_content(
    name: str,
    content: bytes,
    words: list[str],
    folder: Path,
    tiny_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in", name).write_bytes(content)
    for pattern in ("in", "in/*"):
        assert upscale(tiny_checkpoint, pattern, "--overwrite") == 1
        error = capsys.readouterr().err
        assert all(word in error for word in [f"left out in/{name}", *words])


def test_files_that_are_no_images_are_counted(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b.txt", "c.xmp"):
        Path("in", name).write_text("text")
    Path("elsewhere").mkdir()
    Path("in/link").symlink_to(folder / "elsewhere", target_is_directory=True)
    assert upscale(tiny_checkpoint) == 0
    error = capsys.readouterr().err
    assert "skipped 3 (2 .txt, 1 .xmp; first: in/a.txt): not an image" in error
    assert "skipped in/link: a link to a folder" in error


def test_nothing_but_images_that_cannot_be_read(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/good.png").rename("in/good.heif")
    assert upscale(tiny_checkpoint) == 2
    error = capsys.readouterr().err
    assert "found no images in in" in error
    assert "left out in/good.heif: HEIF is not supported" in error


def test_special_files_do_not_block(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("in/pipe.png")
    os.mkfifo("in/pipe")
    Path("in/broken.tif").symlink_to("gone.tif")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/socket.jpg")
        assert upscale(tiny_checkpoint, "in", "/dev/zero") == 1
    error = capsys.readouterr().err
    for name in ("in/pipe.png", "in/socket.jpg", "/dev/zero"):
        assert f"{name}: not a regular file" in error
    assert "in/broken.tif: a link to a missing file" in error
    assert "4 of 5 images failed" in error
    assert results() == {"good.png"}


def test_folders_without_permission(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, user = tiny_checkpoint.read_bytes(), os.geteuid()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o777)
        if user == 0:  # root may list every folder
            os.seteuid(65534)
        try:
            status = upscale_beside_a_closed_folder(Path(place), content)
        finally:
            os.seteuid(user)
        assert status == 1
        assert re.search(r"left out \S+/in/closed: cannot list the folder: Permission denied", capsys.readouterr().err)
        assert Path(place, "out", "good.png").is_file()


def upscale_beside_a_closed_folder(place: Path, checkpoint: bytes) -> int:
    (place / "tiny.pth").write_bytes(checkpoint)
    (place / "in" / "closed").mkdir(parents=True)
    Image.fromarray(photo(12, 16)).save(place / "in" / "good.png")
    (place / "in" / "closed").chmod(0)
    return main(["upscale", f"{place}/in", "-o", f"{place}/out", "--model", f"{place}/tiny.pth"])


class Strange(Exception):
    """An error that no library documents."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Strange("two\nlines"), ["Strange: two; lines"]),
        (RuntimeError("Error setting from dictionary"), ["RuntimeError: Error setting"]),
        (UnicodeEncodeError("ascii", "ü", 0, 1, "no"), ["UnicodeEncodeError"]),
        (MemoryError(), ["not enough memory"]),
        (AssertionError(), ["AssertionError"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_error_fails_its_file_alone(
    error: Exception,
    words: list[str],
    folder: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("in/a.png").write_bytes(Path("in/good.png").read_bytes())
    read = upscaling.read_picture
    waiting = [error]

    def read_or_fail(*args: object, **options: object) -> object:
        if waiting:
            raise waiting.pop()
        return read(*args, **options)

    monkeypatch.setattr(upscaling, "read_picture", read_or_fail)
    assert upscale(tiny_checkpoint) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "in/a.png: " in line)
    assert all(word in line for word in words)
    assert results() == {"good.png"}


def test_ctrl_c_ends_the_command(folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(upscaling, "read_picture", interrupted)
    assert upscale(tiny_checkpoint) == 130
    assert results() == set()
