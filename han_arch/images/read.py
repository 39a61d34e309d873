"""Image files in: PNG, JPEG, WebP, TIFF and BMP, read whole or refused with the reason."""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from han_arch.images.picture import Picture, PictureError, from_pillow, too_large
from han_arch.images.tiff16 import read_tiff16

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # JPEG includes MPO, which phones write: the first picture is taken
MAX_PIXELS = 256_000_000
_BITS_PER_SAMPLE, _PLANES, _SEPARATE = 258, 284, 2
_MAGIC_BYTES = 16
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, OverflowError, struct.error, IndexError)


class _OtherTiff(PictureError):
    """A TIFF that Pillow does not know, or OpenCV reads wrongly."""


def read_size(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width (upright or not) from a file's header.

    Raises:
        PictureError: as `read_picture`.
    """
    with _opened(file, max_pixels) as image:
        return image.height, image.width


def read_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a file.

    Args:
        data: its bytes.
        max_pixels: more are refused before anything is decoded.

    Returns:
        The picture, upright; 16-bit samples stay 16-bit.

    Raises:
        PictureError: empty, cut short, damaged, another format, too many pixels, more than one picture, or samples of
            another kind.
    """
    try:
        return _read(data, max_pixels)
    except _OtherTiff:
        return read_tiff16(data, max_pixels)


def _read(data: bytes, max_pixels: int) -> Picture:
    with _opened(io.BytesIO(data), max_pixels) as image:
        try:
            samples = _sixteen_bits(image, data)
            if samples is None:
                image.load()
            return from_pillow(image, samples)
        except PictureError:
            raise
        except (*_FAULTS, zlib.error) as error:
            raise PictureError(f"damaged or cut short: {error}") from error


@contextlib.contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Pillow's image before it is decoded, checked for size and for more than one picture."""
    start = file.read(_MAGIC_BYTES)
    if not start:
        raise PictureError("an empty file")
    file.seek(0)
    image = _identified(file, start)
    with image:
        if image.width * image.height > max_pixels:
            raise too_large(image.width, image.height, max_pixels)
        if image.format != "MPO" and _pictures(image) > 1:
            raise PictureError(f"{_pictures(image)} pictures in one {image.format} file; wanted a single still image")
        yield image


def _identified(file: BinaryIO, start: bytes) -> Image.Image:
    # Pillow has a limit of its own, for the whole process; ours is checked by the caller before anything is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            kind = _OtherTiff if start.startswith((b"II*\0", b"MM\0*")) else PictureError
            raise kind(_unknown(start)) from None
        except _FAULTS as error:
            raise PictureError(f"damaged or cut short: {error}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _pictures(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except _FAULTS as error:
        raise PictureError(f"damaged or cut short: {error}") from error


def _sixteen_bits(image: Image.Image, data: bytes) -> np.ndarray | None:
    """(h, w, 1 to 4) of uint16; None for a file that has 8 bits, or whose mode Pillow reads with all of its bits."""
    if image.format == "PNG" and data[24] == 16:
        grey, alpha = data[25] in (0, 4), data[25] == 4
    elif image.format == "TIFF" and image.mode in ("RGB", "RGBA") and set(_bits(image)) == {16}:
        if getattr(image, "tag_v2", {}).get(_PLANES) == _SEPARATE:
            raise _OtherTiff("16-bit samples in planes")
        grey = alpha = False
    else:
        return None
    image.load()  # OpenCV does not tell of a file that is cut short
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.shape[:2] != (image.height, image.width):
        raise PictureError("16-bit samples that OpenCV does not read")
    if samples.ndim == 2:
        return samples[..., None]
    if grey:
        return samples[..., [0, 3]] if alpha else samples[..., :1]
    order = cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(samples, order, samples)


def _bits(image: Image.Image) -> tuple[int, ...]:
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
    return bits if isinstance(bits, tuple) else (bits,)


def _unknown(start: bytes) -> str:
    wanted = "wanted PNG, JPEG, WebP, TIFF or BMP"
    if start.startswith(b"GIF8") or start[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif"):
        name = "GIF" if start.startswith(b"GIF8") else "HEIC or AVIF"
        return f"{name}; {wanted}"
    return f"not an image; {wanted}"
