"""PNG files of 16-bit samples, which Pillow does not write in colour nor OpenCV with grey and alpha or a profile."""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from han_arch.images.picture import Picture

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_BAND_BYTES = 1 << 22
_INCH = 0.0254


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
