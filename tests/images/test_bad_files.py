"""Bad image files: `basicsr upscale` rejects each with a reason, writes nothing for it, and upscales the others."""

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from known_engines import photo, save_checkpoint, tiny_net
from PIL import Image

from han_arch.cli import main
from han_arch.images.picture import ImageError, Picture
from han_arch.images.png16 import write_png16
from han_arch.images.read import decode_image, read_picture


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
    """Return a PNG file with 40,000 x 40,000 pixels in its header."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png()[33:]


def sixteen_cut() -> bytes:
    file = io.BytesIO()
    write_png16(file, Picture(photo(60, 60, 3, np.uint16)), "test", 6)
    return file.getvalue()[:9000]


def saved(mode: str, format: str) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        Image.new(mode, (9, 9)).save(file, format)
        return file.getvalue()

    return make


REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "cut short": ("a.png", lambda: png()[:-300], "damaged or incomplete"),
    "cut short, JPEG": ("a.jpg", lambda: saved("RGB", "jpeg")()[:400], "damaged or incomplete"),
    "cut short, 16 bit": ("a.png", sixteen_cut, "damaged or incomplete"),
    "damaged inside": ("a.png", lambda: png()[:60] + b"\xff" * 40 + png()[100:], "damaged or incomplete"),
    "zero bytes": ("a.png", lambda: b"", "empty file"),
    "text": ("a.png", lambda: b"this is no picture\n" * 50, "not an image; use PNG"),
    "bomb": ("a.png", bomb, "40000x40000 pixels; the limit is 256,000,000"),
    "GIF": ("a.png", lambda: frames("gif"), "GIF is not supported; use PNG"),
    "animated PNG": ("a.png", lambda: frames("png"), "3 pictures in one PNG file"),
    "animated WebP": ("a.webp", lambda: frames("webp"), "3 pictures in one WEBP file"),
    "pages": ("a.tif", lambda: frames("tiff"), "3 pictures in one TIFF file"),
    "nan": ("a.tif", float_tiff, "unsupported TIFF file"),
    "32 bit": ("a.tif", saved("I", "tiff"), "colour mode I is not supported"),
    "Lab": ("a.tif", saved("LAB", "tiff"), "colour mode LAB is not supported"),
    "header only": ("a.tif", lambda: b"II*\0\x08\0\0\0", "damaged or incomplete"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one valid photo, in/good.png."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(png())
    return tmp_path


def upscale(folder: Path, tiny_checkpoint: Path, *words: str) -> int:
    return main(["upscale", str(folder / "in"), "-o", str(folder / "out"), "--model", str(tiny_checkpoint), *words])


def results(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_refused(kind: str, folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, make, reason = REFUSED[kind]
    (folder / "in" / name).write_bytes(make())
    assert upscale(folder, tiny_checkpoint) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert str(folder / "in" / name) in error
    assert "1 of 2 images failed" in error
    assert "Traceback" not in error
    assert results(folder) == {"good.png"}


ACCEPTED: dict[str, tuple[str, Callable[[], bytes], tuple[int, int]]] = {
    "wrong ending": ("a.png", saved("RGB", "jpeg"), (18, 18)),
    "one pixel": ("a.png", lambda: png(photo(1, 1)), (2, 2)),
    "one row": ("a.png", lambda: png(photo(1, 3000)), (6000, 2)),
    "one column": ("a.png", lambda: png(photo(2500, 1)), (2, 5000)),
}


@pytest.mark.parametrize("kind", list(ACCEPTED))
def test_odd_but_accepted(kind: str, folder: Path, tiny_checkpoint: Path) -> None:
    name, make, size = ACCEPTED[kind]
    (folder / "in" / name).write_bytes(make())
    assert upscale(folder, tiny_checkpoint) == 0
    with Image.open(folder / "out" / name) as image:
        assert image.size == size
        assert image.format == "PNG"


def test_folder_with_an_images_name(folder: Path, tiny_checkpoint: Path) -> None:
    (folder / "in" / "folder.png").mkdir()
    (folder / "in" / "folder.png" / "inner.png").write_bytes(png())
    assert upscale(folder, tiny_checkpoint) == 0
    assert (folder / "out" / "folder.png" / "inner.png").is_file()


def test_links_in_circles_and_to_nothing(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "in" / "circle").symlink_to(folder / "in", target_is_directory=True)
    (folder / "in" / "self.png").symlink_to(folder / "in" / "self.png")
    (folder / "in" / "nothing.png").symlink_to(folder / "gone.png")
    assert upscale(folder, tiny_checkpoint) == 1
    assert "nothing.png: a link to a missing file" in capsys.readouterr().err
    assert results(folder) == {"good.png"}


def test_a_pipe_in_a_folder_is_refused_at_once(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(folder / "in" / "pipe.png")
    assert upscale(folder, tiny_checkpoint) == 1
    assert "pipe.png: not a regular file" in capsys.readouterr().err


def test_no_permission(folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every file")
    (folder / "in" / "closed.png").write_bytes(png())
    (folder / "in" / "closed.png").chmod(0)
    assert upscale(folder, tiny_checkpoint) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_a_higher_limit_accepts_the_large_image(folder: Path, tiny_checkpoint: Path) -> None:
    assert upscale(folder, tiny_checkpoint, "--max-pixels", "100") == 1
    assert results(folder) == set()
    assert upscale(folder, tiny_checkpoint, "--max-pixels", "192") == 0


def test_disk_full_leaves_nothing(folder: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Image.Image, file: io.BytesIO, *_: object, **__: object) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fails)
    assert upscale(folder, tiny_checkpoint) == 1
    assert results(folder) == set()


def test_network_of_infinite_values_writes_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tiny_net()
    net.conv_last.weight.data.fill_(torch.finfo(torch.float32).max)
    save_checkpoint(tmp_path / "large.pth", net)
    assert upscale(folder, tmp_path / "large.pth", "--dtype", "bf16") == 1
    error = capsys.readouterr().err
    assert re.search(r"warning: .*not finite in bf16.*float32", error)
    assert re.search(r"large\.pth.*not finite in float32", error)
    assert results(folder) == set()


def _plain_tiff(width: int, height: int, padding: int = 0) -> bytes:
    """Return a TIFF file without pixel data, whose header claims a size."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1),
               (278, 4, height), (279, 4, 16)]  # fmt: skip
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4 + 64 + padding)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("width", "height"), [(14_000, 12_000), (40_000, 40_000), (2**31, 2**31)])
def test_a_data_set_refuses_a_small_file_that_claims_many_pixels(width: int, height: int) -> None:
    with pytest.raises(ImageError, match=f"{width * height:,} pixels in a file of"):
        decode_image(_plain_tiff(width, height))


@pytest.mark.filterwarnings("error")
def test_a_data_set_takes_large_photos() -> None:
    file = io.BytesIO()
    Image.new("L", (7680, 4320)).save(file, "png", compress_level=1)  # 8K, with as little content as can be
    assert decode_image(file.getvalue()).shape == (4320, 7680)
    # 60 megapixels in a file of 60 kB are not refused because of their number.
    with pytest.raises(ImageError, match="damaged or incomplete"):
        decode_image(_plain_tiff(10_000, 6_000, padding=60_000))


@pytest.mark.filterwarnings("error")
def test_the_limit_of_pillow_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    file, pixels = io.BytesIO(), photo(12, 16)
    Image.fromarray(pixels).save(file, "tiff", compression="tiff_lzw")
    for limit in (150, 10):  # Pillow warns, or refuses
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        np.testing.assert_array_equal(read_picture(file.getvalue()).pixels, pixels)
        np.testing.assert_array_equal(decode_image(file.getvalue()), pixels)
        assert limit == Image.MAX_IMAGE_PIXELS


def test_a_chunk_longer_than_the_file_takes_no_memory() -> None:
    file = io.BytesIO()
    write_png16(file, Picture(photo(10, 12, 3, np.uint16)), "test", 6)
    data = bytearray(file.getvalue())
    at = data.find(b"IDAT")
    data[at - 4 : at] = struct.pack(">I", 0xFF00CC00)
    with pytest.raises(ImageError, match="a chunk is longer than the file"):
        read_picture(bytes(data))
