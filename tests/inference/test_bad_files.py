"""Files that are none: each is refused with its reason, or taken knowingly; nothing is written, the rest goes on."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from known_engines import photo
from PIL import Image

from han_arch.cli import main


def png(pixels: np.ndarray | None = None) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(12, 16) if pixels is None else pixels).save(file, "png")
    return file.getvalue()


def frames(format: str) -> bytes:
    file = io.BytesIO()
    images = [Image.fromarray(photo(12, 16, seed=seed)) for seed in range(3)]
    images[0].save(file, format, save_all=True, append_images=images[1:])
    return file.getvalue()


def float_tiff() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.full((8, 8, 3), np.nan, np.float32), photometric="rgb")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG that says it has 40,000 x 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png()[33:]


def sixteen_cut() -> bytes:
    from han_arch.images.picture import Picture
    from han_arch.images.png16 import write_png16

    file = io.BytesIO()
    write_png16(file, Picture(photo(60, 60, 3, np.uint16)), {})
    return file.getvalue()[:9000]


def saved(mode: str, format: str) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        Image.new(mode, (9, 9)).save(file, format)
        return file.getvalue()

    return make


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "cut short": ("a.png", lambda: png()[:-300], "damaged or cut short"),
    "cut short, JPEG": ("a.jpg", lambda: saved("RGB", "jpeg")()[:400], "damaged or cut short"),
    "cut short, 16 bit": ("a.png", sixteen_cut, "damaged or cut short"),
    "damaged inside": ("a.png", lambda: png()[:60] + b"\xff" * 40 + png()[100:], "damaged or cut short"),
    "zero bytes": ("a.png", lambda: b"", "an empty file"),
    "text": ("a.png", lambda: b"this is no picture\n" * 50, "not an image; wanted PNG, JPEG, WebP, TIFF or BMP"),
    "bomb": ("a.png", bomb, "40000x40000 are more than 256,000,000 pixels; a larger --max-pixels takes it"),
    "GIF": ("a.png", lambda: frames("gif"), "GIF; wanted PNG"),
    "animated PNG": ("a.png", lambda: frames("png"), "3 pictures in one PNG file"),
    "animated WebP": ("a.webp", lambda: frames("webp"), "3 pictures in one WEBP file"),
    "pages": ("a.tif", lambda: frames("tiff"), "3 pictures in one TIFF file"),
    "nan": ("a.tif", float_tiff, "a TIFF whose samples are not read"),
    "32 bit": ("a.tif", saved("I", "tiff"), "colour mode I; wanted 8 or 16 bit"),
    "Lab": ("a.tif", saved("LAB", "tiff"), "colour mode LAB; wanted 8 or 16 bit"),
    "header only": ("a.tif", lambda: b"II*\0\x08\0\0\0", "damaged or cut short"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With one good photo, and a place for a bad one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(png())
    return tmp_path


def upscale(folder: Path, checkpoint: Path, *words: str) -> int:
    return main(["upscale", str(folder / "in"), "-o", str(folder / "out"), "--model", str(checkpoint), *words])


def results(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_refused(kind: str, folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, reason = REFUSED[kind]
    (folder / "in" / name).write_bytes(make())
    assert upscale(folder, checkpoint) == 1
    told = capsys.readouterr().err
    assert reason in told
    assert str(folder / "in" / name) in told
    assert "1 of 2 images failed" in told
    assert "Traceback" not in told
    assert results(folder) == {"good.png"}


TAKEN: dict[str, tuple[str, Callable[[], bytes], tuple[int, int]]] = {
    "wrong ending": ("a.png", saved("RGB", "jpeg"), (18, 18)),
    "one pixel": ("a.png", lambda: png(photo(1, 1)), (2, 2)),
    "one row": ("a.png", lambda: png(photo(1, 3000)), (6000, 2)),
    "one column": ("a.png", lambda: png(photo(2500, 1)), (2, 5000)),
}


@pytest.mark.parametrize("kind", list(TAKEN))
def test_odd_but_taken(kind: str, folder: Path, checkpoint: Path) -> None:
    name, make, size = TAKEN[kind]
    (folder / "in" / name).write_bytes(make())
    assert upscale(folder, checkpoint) == 0
    with Image.open(folder / "out" / name) as image:
        assert image.size == size
        assert image.format == "PNG"


def test_folder_with_an_images_name(folder: Path, checkpoint: Path) -> None:
    (folder / "in" / "folder.png").mkdir()
    (folder / "in" / "folder.png" / "inner.png").write_bytes(png())
    assert upscale(folder, checkpoint) == 0
    assert (folder / "out" / "folder.png" / "inner.png").is_file()


def test_links_in_circles_and_to_nothing(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "circle").symlink_to(folder / "in", target_is_directory=True)
    (folder / "in" / "self.png").symlink_to(folder / "in" / "self.png")
    (folder / "in" / "nothing.png").symlink_to(folder / "gone.png")
    assert upscale(folder, checkpoint) == 1
    assert "nothing.png: a link to nothing" in capsys.readouterr().err
    assert results(folder) == {"good.png"}


def test_pipe_in_a_folder_is_not_waited_for(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "in" / "pipe.png")
    assert upscale(folder, checkpoint) == 1
    assert "pipe.png: not a file" in capsys.readouterr().err


def test_no_permission(folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    (folder / "in" / "closed.png").write_bytes(png())
    (folder / "in" / "closed.png").chmod(0)
    assert upscale(folder, checkpoint) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_a_raised_limit_takes_the_large_image(folder: Path, checkpoint: Path) -> None:
    assert upscale(folder, checkpoint, "--max-pixels", "100") == 1
    assert results(folder) == set()
    assert upscale(folder, checkpoint, "--max-pixels", "192") == 0


def test_disk_full_leaves_nothing(folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Image.Image, file: io.BytesIO, *_: object, **__: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    assert upscale(folder, checkpoint) == 1
    assert results(folder) == set()


def test_network_of_nan_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    from known_engines import ARGUMENTS, tiny_net

    net = tiny_net()
    net.conv_last.bias.data.fill_(torch.nan)
    options = {"type": "HAN", **ARGUMENTS, "upscale": 2}
    torch.save({"params": net.state_dict(), "network_g": options}, tmp_path / "nan.pth")
    assert upscale(folder, tmp_path / "nan.pth", "--dtype", "bf16") == 1
    told = capsys.readouterr().err
    assert "warning: values that are not finite in bf16; computed again in float32" in told
    assert "the network (nan.pth) gives values that are not finite in float32" in told
    assert results(folder) == set()
