"""The header decides whether an image fits the memory limit, before anything is decoded; the predictions hold."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from known_engines import photo
from PIL import Image

import han_arch
from han_arch.cli import main
from han_arch.errors import UserError
from han_arch.images.header import Header
from han_arch.images.picture import Picture
from han_arch.images.png16 import write_png16
from han_arch.images.read import read_picture
from han_arch.speed.memory import added_at_peak


def png_of_size(height: int, width: int, depth: int = 8, colour: int = 2) -> bytes:
    """Return a small PNG file whose header says height x width."""
    file = io.BytesIO()
    Image.fromarray(photo(12, 16)).save(file, "png")
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + file.getvalue()[33:]


def tiff_of_size(height: int, width: int) -> bytes:
    """Return a small 16-bit TIFF file whose tags say height x width."""
    file = io.BytesIO()
    tifffile.imwrite(file, photo(12, 16, 3, np.uint16), photometric="rgb")
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        for name, value in (("ImageLength", height), ("ImageWidth", width), ("RowsPerStrip", height)):
            tag = opened.pages[0].tags[name]
            struct.pack_into("<I" if tag.dtype == 4 else "<H", data, tag.valueoffset, value)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: png_of_size(15_000, 17_000),
    "PNG, 16 bit": lambda: png_of_size(10_000, 12_000, depth=16),
    "PNG, 16 bit, grey and alpha": lambda: png_of_size(10_000, 12_000, depth=16, colour=4),
    "TIFF, 16 bit": lambda: tiff_of_size(12_000, 12_000),
}


@pytest.mark.parametrize("kind", list(BOMBS))
def test_a_large_image_in_a_small_file_is_not_decoded(
    kind: str, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "large.img.png").write_bytes(BOMBS[kind]())
    command = ["upscale", str(tmp_path / "large.img.png"), "-o", str(tmp_path / "out"), "--memory", "800M"]
    statuses: list[int] = []
    added = added_at_peak(lambda: statuses.append(main([*command, "--model", str(tiny_checkpoint)])))
    if added is None:
        pytest.skip("peak memory is read from Linux's /proc")
    assert statuses == [1]
    assert added < 200_000_000
    error = capsys.readouterr().err
    assert "large.img.png" in error
    assert "pixels need --memory" in error
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize("source", ["file", "standard input"])
def test_a_file_larger_than_the_memory_limit_is_not_read(
    source: str, tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    path = tmp_path / "long.png"
    path.write_bytes(png_of_size(12, 16))
    with path.open("ab") as file:
        file.truncate(3 * 10**9)  # takes no room on the disk
    with path.open("rb") as file:
        if source == "standard input":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        command = ["upscale", "-" if source == "standard input" else str(path), "-o", str(tmp_path / "out")]
        assert main([*command, "--memory", "700M", "--model", str(tiny_checkpoint)]) == 1
    error = capsys.readouterr().err
    assert "--memory" in error
    assert "700M" in error


def encoded(mode: str, format: str, **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        channels = len(Image.new(mode, (1, 1)).getbands()) if mode != "P" else 3
        pixels = photo(12, 16, channels)
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        if mode == "P":
            image = image.quantize(16)
        elif mode in ("CMYK", "1"):
            image = Image.frombytes("CMYK", (16, 12), pixels.tobytes()) if mode == "CMYK" else image.convert("1")
        image.save(file, format, **options)
        return file.getvalue()

    return make


def sixteen(format: str, channels: int) -> Callable[[], bytes]:
    def make() -> bytes:
        file, pixels = io.BytesIO(), photo(12, 16, channels, np.uint16)
        if format == "png":
            write_png16(file, Picture(pixels), "test", 6)
        else:
            tifffile.imwrite(
                file,
                pixels,
                photometric="rgb" if channels > 2 else "minisblack",
                planarconfig="contig" if channels > 1 else None,
            )
        return file.getvalue()

    return make


MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
KINDS = {
    **{f"{mode} {form}": encoded(mode, form) for mode in MODES for form in ("png", "tiff")},
    **{f"{mode} jpeg": encoded(mode, "jpeg", progressive=True) for mode in ("L", "RGB", "CMYK")},
    **{f"{mode} webp": encoded(mode, "webp") for mode in ("RGB", "RGBA")},
    **{f"{mode} transparent png": encoded(mode, "png", transparency=3) for mode in ("L", "P")},
    **{f"16 bit, {channels}, {form}": sixteen(form, channels) for channels in (1, 2, 3, 4) for form in ("png", "tiff")},
    "RGB bmp": encoded("RGB", "bmp"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_header_says_what_decoding_gives(kind: str) -> None:
    headers: list[Header] = []
    pixels = read_picture(KINDS[kind](), examine=headers.append).pixels
    (header,) = headers
    assert header.shape[:2] == pixels.shape[:2]
    assert header.itemsize == pixels.itemsize
    assert header.shape[2] in (pixels.shape[2], pixels.shape[2] + 2)  # Pillow shows grey and alpha as RGBA
    assert 2 * pixels.nbytes <= header.reading <= 30 * 12 * 16


MEASURE = """
import sys
from han_arch.images.read import read_picture
from han_arch.speed.memory import added_at_peak
data, headers = open(sys.argv[1], "rb").read(), []
read_picture(open(sys.argv[2], "rb").read())
print(added_at_peak(lambda: read_picture(data, examine=headers.append)), headers[0].reading)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "png 16", "tiff 16"])
def test_measured_memory_stays_below_the_prediction(kind: str, tmp_path: Path) -> None:
    form, _, bits = kind.partition(" ")
    for name, height in (("small", 20), ("large", 3000)):
        pixels = np.broadcast_to(photo(20, 3000, 3, np.uint16 if bits else np.uint8)[:1], (height, 3000, 3)).copy()
        with (tmp_path / name).open("w+b") as file:
            if not bits:
                Image.fromarray(pixels).save(file, form)
            elif form == "png":
                write_png16(file, Picture(pixels), "test", 1)
            else:
                tifffile.imwrite(file, pixels, photometric="rgb", compression="zlib", rowsperstrip=height)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "large"), str(tmp_path / "small")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    measured, predicted = map(int, done.stdout.split())
    assert 0.5 * predicted < measured <= predicted


def test_a_pillow_image_that_is_not_decoded_yet(tiny_checkpoint: Path) -> None:
    image = Image.open(io.BytesIO(png_of_size(10_000, 8_000)))
    with pytest.raises(UserError, match=r"8000x10000 pixels need --memory .*800 MB"):
        han_arch.upscale(image, tiny_checkpoint, memory="800M")
