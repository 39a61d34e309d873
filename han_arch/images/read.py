"""Read image files of every format in the table; a faulty file raises an error with the reason."""

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from han_arch.images.formats import FORMATS, labels
from han_arch.images.picture import NotForPillow, Picture, PictureError, from_pillow, too_large

MAX_PIXELS = 256_000_000
_MAGIC_BYTES = 16
_FAULTS = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, OverflowError, struct.error, IndexError)


def read_size(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read height and width, without EXIF orientation, from a file's header.

    Raises:
        PictureError: as `read_picture`.
    """
    with _opened(file, max_pixels) as image:
        return image.height, image.width


def read_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a file; 16-bit samples stay 16-bit.

    Args:
        data: the file's bytes.
        max_pixels: the limit; larger images are rejected before they are decoded.

    Raises:
        PictureError: an empty, truncated or damaged file, an unknown format, too many pixels, several pictures, or
            unsupported samples.
        UserError: a package that reads this file is not installed.
    """
    try:
        return _read(data, max_pixels)
    except NotForPillow:
        for image_format in FORMATS.values():
            if image_format.read_other is not None and data.startswith(image_format.signatures):
                return image_format.read_other(data, max_pixels)
        raise


def _read(data: bytes, max_pixels: int) -> Picture:
    with _opened(io.BytesIO(data), max_pixels) as image:
        image_format = FORMATS.get(str(image.format).lower())
        try:
            samples = image_format.read(image, data) if image_format else None
            if samples is None:
                image.load()
            return from_pillow(image, samples)
        except PictureError:
            raise
        except (*_FAULTS, zlib.error) as error:
            raise PictureError(f"damaged or cut short: {error}") from error


@contextlib.contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open with Pillow, without decoding; check the size and that there is one picture."""
    start = file.read(_MAGIC_BYTES)
    if not start:
        raise PictureError("an empty file")
    file.seek(0)
    with _identified(file, start) as image:
        if image.width * image.height > max_pixels:
            raise too_large(image.width, image.height, max_pixels)
        if image.format != "MPO" and _pictures(image) > 1:
            raise PictureError(f"{_pictures(image)} pictures in one {image.format} file; wanted a single still image")
        yield image


def _identified(file: BinaryIO, start: bytes) -> Image.Image:
    # Pillow has a limit for the whole process; the caller checks ours before anything is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=[image_format.label.upper() for image_format in FORMATS.values()])
        except UnidentifiedImageError:
            raise NotForPillow(f"{_guess(start)}; wanted {labels(FORMATS.values())}") from None
        except _FAULTS as error:
            raise PictureError(f"damaged or cut short: {error}") from error
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _pictures(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except _FAULTS as error:
        raise PictureError(f"damaged or cut short: {error}") from error


def _guess(start: bytes) -> str:
    if start.startswith(b"GIF8"):
        return "GIF"
    return "HEIC or AVIF" if start[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif") else "not an image"
