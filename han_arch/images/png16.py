"""Read and write 16-bit PNG files. Neither Pillow nor OpenCV can write them with colour, alpha and an ICC profile."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import putchunk

from han_arch.images.exif import packed
from han_arch.images.picture import ImageError, Picture, opencv_samples, with_alpha

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEY = b"XML:com.adobe.xmp"  # the key of the text with XMP data
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # colour type in a PNG header -> number of channels
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_BAND_BYTES = 1 << 22
_INCH = 0.0254


@dataclass(frozen=True)
class PngHeader:
    """Header of a PNG file: height and width in pixels, number of channels, and depth in bits per pixel value."""

    height: int
    width: int
    channels: int
    depth: int


def png_header(data: bytes) -> PngHeader:
    """Read the header of a PNG file from its first 26 bytes. Raise ImageError if the file is not a PNG file."""
    if len(data) < 26 or not data.startswith(PNG_SIGNATURE) or data[25] not in _CHANNELS:
        raise ImageError("not a PNG file")
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    return PngHeader(height, width, _CHANNELS[colour_type], depth)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG file up to IEND: their types, and where their contents start and end."""
    end, chunk = len(PNG_SIGNATURE) - 4, b""
    while chunk != b"IEND" and end + 12 <= len(data):
        length, chunk = struct.unpack_from(">I4s", data, end + 4)
        start = end + 12
        end = start + length
        yield chunk, start, end


def read_png16(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Return the pixel values of a 16-bit PNG file as uint16, (h, w, 1 to 4). Return None if the file is not 16-bit."""
    header = png_header(data)
    if header.depth != 16:
        return None
    if any(end > len(data) for _, _, end in png_chunks(data)):  # OpenCV allocates what a chunk claims, up to 4 GB
        raise ImageError("damaged or incomplete file: a chunk is longer than the file")
    samples = opencv_samples(image, data)
    if header.channels == 2:  # OpenCV returns grey and alpha as three equal channels and alpha
        return samples[..., [0, 3]]
    return with_alpha(samples[..., : header.channels], image.info.get("transparency") if header.channels < 4 else None)


def png_extras(picture: Picture) -> list[tuple[bytes, bytes]]:
    """Return the PNG chunks (type, content) of a picture that PNG files only have, and the chunk with its XMP data."""
    chunks = [(extra.content[:4], extra.content[4:]) for extra in picture.extras if extra.format == "png"]
    if picture.icc:  # a file has at most one of the two
        chunks = [chunk for chunk in chunks if chunk[0] != b"sRGB"]
    if picture.xmp:
        chunks.append((b"iTXt", XMP_KEY + bytes(5) + picture.xmp))
    return chunks


def write_png16(file: BinaryIO, picture: Picture, software: str, level: int) -> None:
    """Write a picture of uint16 values as a PNG file, with its metadata.

    The rows are compressed in bands of a few megabytes, to save memory. `software` is the text for
    the metadata field Software; characters outside Latin-1 become "?". `level` is the compression level, 0 to 9.

    Source: the PNG specification, third edition. Every row is predicted from the row above it (filter type 2).
    """
    height, width, channels = picture.pixels.shape
    file.write(PNG_SIGNATURE)
    putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))
    if picture.icc:
        putchunk(file, b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        across, down = (round(value / _INCH) for value in picture.dpi)
        putchunk(file, b"pHYs", struct.pack(">IIB", across, down, 1))
    for chunk, content in png_extras(picture):
        putchunk(file, chunk, content)
    if picture.exif:
        putchunk(file, b"eXIf", packed(picture.exif).removeprefix(b"Exif\0\0"))
    putchunk(file, b"tEXt", b"Software\0" + software.encode("latin-1", "replace"))
    compressor = zlib.compressobj(level)
    for band in _filtered(picture.pixels):
        if data := compressor.compress(band):
            putchunk(file, b"IDAT", data)
    putchunk(file, b"IDAT", compressor.flush())
    putchunk(file, b"IEND", b"")


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
