"""PNG files with 16-bit samples, which neither Pillow nor OpenCV writes in all forms (colour, alpha, ICC profile)."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from han_arch.images.picture import Picture, opencv_samples

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's number
_BIT_DEPTH, _COLOUR_TYPE = 24, 25  # places of these bytes in a file
_BAND_BYTES = 1 << 22
_INCH = 0.0254


def read_png16(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Return a file's 16-bit samples, (h, w, 1 to 4) of uint16; None for a file of 8 bits.

    Args:
        image: the file, opened by Pillow.
        data: the file's bytes.
    """
    if data[_BIT_DEPTH] != 16:
        return None
    samples, colour_type = opencv_samples(image, data), data[_COLOUR_TYPE]
    if samples.shape[2] == 1 or colour_type not in (0, 4):
        return samples
    return samples[..., [0, 3]] if colour_type == 4 else samples[..., :1]  # OpenCV repeats grey in three channels


def write_png16(file: BinaryIO, picture: Picture, texts: dict[str, str], level: int = 6) -> None:
    """Write uint16 samples band by band, with ICC profile, DPI, EXIF and Latin-1 texts.

    Source: the PNG specification, third edition; every row is predicted by the one above it (filter 2).
    """
    height, width, channels = picture.pixels.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))
    if picture.icc:
        _chunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        across, down = (round(value / _INCH) for value in picture.dpi)
        _chunk(file, b"pHYs", struct.pack(">IIB", across, down, 1))
    if picture.exif:
        _chunk(file, b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))
    for key, text in texts.items():
        _chunk(file, b"tEXt", key.encode("latin-1") + b"\0" + text.encode("latin-1", "replace"))
    compressor = zlib.compressobj(level)
    for band in _filtered(picture.pixels):
        data = compressor.compress(band)
        if data:
            _chunk(file, b"IDAT", data)
    _chunk(file, b"IDAT", compressor.flush())
    _chunk(file, b"IEND", b"")


def _filtered(pixels: np.ndarray) -> Iterator[bytes]:
    height, width, channels = pixels.shape
    step = max(1, _BAND_BYTES // (2 * width * channels))
    above = np.zeros((1, 2 * width * channels), np.uint8)
    for start in range(0, height, step):
        rows = pixels[start : start + step].astype(">u2").reshape(-1, width * channels).view(np.uint8)
        filtered = np.full((len(rows), rows.shape[1] + 1), 2, np.uint8)
        filtered[:, 1:] = rows - np.concatenate([above, rows[:-1]])
        above = rows[-1:]
        yield filtered.tobytes()


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
