"""Read image files: every format of the table for upscaling; strictly 8 bits for data sets and measurements."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from han_arch.images.formats import FORMATS, listed
from han_arch.images.picture import ImageError, NotForPillow, Picture, damage_reported, from_pillow, too_large
from han_arch.images.png16 import PNG_SIGNATURE, png_header

MAX_PIXELS = 256_000_000


def read_size(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read height and width, without EXIF orientation, from a file's header.

    Raises:
        ImageError: as `read_picture`.
    """
    with _opened(file, max_pixels) as image:
        return image.height, image.width


def read_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a file; 16-bit samples stay 16-bit.

    Args:
        data: the file's bytes.
        max_pixels: the limit; larger images are rejected before they are decoded.

    Raises:
        ImageError: an empty, truncated or damaged file, an unknown format, too many pixels, several pictures, or
            unsupported samples.
        UserError: a package that reads this file is not installed.
    """
    try:
        with _opened(io.BytesIO(data), max_pixels) as image:
            image_format = FORMATS.get(str(image.format).lower())
            samples = image_format.read(image, data) if image_format else None
            if samples is None:
                image.load()
            return from_pillow(image, samples)
    except NotForPillow:
        for image_format in FORMATS.values():
            if image_format.read_other is not None and data.startswith(image_format.signatures):
                return image_format.read_other(data, max_pixels)
        raise


@contextlib.contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open with Pillow, without decoding; check the size and that there is one picture."""
    start = file.read(16)  # enough to guess the format
    if not start:
        raise ImageError("an empty file")
    file.seek(0)
    with damage_reported(), _identified(file, start) as image:
        if image.width * image.height > max_pixels:
            raise too_large(image.width, image.height, max_pixels)
        if image.format != "MPO" and (pictures := getattr(image, "n_frames", 1)) > 1:
            raise ImageError(f"{pictures} pictures in one {image.format} file; wanted a single still image")
        yield image


def _identified(file: BinaryIO, start: bytes) -> Image.Image:
    # Pillow has a limit for the whole process; the caller checks ours before anything is decoded.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=[image_format.label.upper() for image_format in FORMATS.values()])
        except UnidentifiedImageError:
            wanted = listed(image_format.label for image_format in FORMATS.values())
            raise NotForPillow(f"{_guess(start)}; wanted {wanted}") from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _guess(start: bytes) -> str:
    if start.startswith(b"GIF8"):
        return "GIF"
    return "HEIC or AVIF" if start[4:12] in (b"ftypheic", b"ftypmif1", b"ftypavif") else "not an image"


def decode_image(data: bytes) -> np.ndarray:
    """Decode a whole file with 8-bit samples, in any format that Pillow reads.

    Returns:
        uint8: (h, w) grey, (h, w, 3) RGB, or (h, w, 2 or 4) with alpha last.

    Raises:
        ImageError: an empty, truncated or damaged file, no image, or more than 8 bits a sample.
    """
    if not data:
        raise ImageError("empty file")
    # Pillow would silently reduce 16-bit colour to 8 bits.
    if data.startswith(PNG_SIGNATURE) and png_header(data).depth == 16:
        raise ImageError("16 bits a sample; wanted 8")
    with damage_reported(), Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith(("I", "F")):
            raise ImageError("16 or more bits a sample; wanted 8")
        image.load()
        return np.asarray(_plain(image))


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB", "LA", "RGBA"):
        return image
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    if image.mode in ("1", "P"):
        return image.convert({"1": "L", "P": "RGB"}[image.mode])
    raise ImageError(f"colour mode {image.mode}; wanted grey or RGB")


def read_image(path: Path) -> np.ndarray:
    """Read a file as `decode_image` does; the ImageError names the file."""
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def list_files(folder: Path) -> list[Path]:
    """List a folder's files by name, without hidden ones (leading dot), as BasicSR does."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
