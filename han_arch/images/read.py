"""Read image files. `read_picture` is for upscaling. `read_image`, for data sets and scores, accepts only 8 bits."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from han_arch.images.formats import FORMATS, listed
from han_arch.images.header import Header, header_of, tile_size
from han_arch.images.metadata import forget_damaged_tags, with_metadata
from han_arch.images.picture import (
    ImageError,
    NotForPillow,
    Picture,
    damage_reported,
    from_pillow,
    orientation_of,
    too_large,
    upright,
)
from han_arch.images.png16 import PNG_SIGNATURE, png_header
from han_arch.images.signatures import START, kind_of

MAX_PIXELS = 256_000_000
# Pillow mode of an image in a data set -> mode that its pixels are converted to.
_DATA_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
_BITS_PER_SAMPLE = 258  # number of a TIFF tag
_TEXT_BYTES = 16 << 20  # largest compressed text or ICC profile of a PNG file, in bytes after decompression
# An image in a data set may have this many pixels, and more if its file has a byte for every 1,000 pixels: only files
# with hardly any content compress better. An 8K image has 33 million pixels.
_SURE_PIXELS, _PIXELS_PER_BYTE = 50_000_000, 1000
_SWITCHING, _users = Lock(), 0
_limits: tuple[int | None, int] = (None, 0)


def read_header(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the header of an image file. The image is not decoded.

    Raises:
        ImageError: the file cannot be read; see `read_picture` for the reasons.
    """
    with _opened(file, max_pixels) as image:
        return header_of(image)


def read_picture(
    data: bytes, max_pixels: int = MAX_PIXELS, examine: Callable[[Header], None] = lambda header: None
) -> Picture:
    """Read an image file from its bytes. 16-bit pixel values stay 16-bit.

    Images with more than max_pixels pixels are rejected before they are decoded. `examine` is called before an image is
    decoded, and can reject it by raising an ImageError or a UserError.

    Raises:
        ImageError: the file is empty, truncated or damaged; its format is unknown; the image has too many
            pixels; the file contains several pictures; or the pixel values are not supported.
        UserError: the package that can read this file is not installed.
    """
    try:
        with _opened(io.BytesIO(data), max_pixels) as image:
            examine(header_of(image))
            image_format = FORMATS.get(str(image.format).lower())
            forget_damaged_tags(image)
            samples = image_format.read(image, data) if image_format else None
            return with_metadata(from_pillow(image, samples), image, data)
    except NotForPillow:
        for image_format in FORMATS.values():
            if (picture := image_format.read_other(data, max_pixels, examine)) is not None:
                return with_metadata(picture, None, data)
        raise


@contextlib.contextmanager
def _opened(file: BinaryIO, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image file with Pillow, without decoding it. Reject files with too many pixels or several pictures."""
    start = file.read(16)  # 16 bytes are enough to guess the format
    if not start:
        raise ImageError("empty file")
    file.seek(0)
    with damage_reported(), _own_limits(), _identified(file, start) as image:
        if image.width * image.height > max_pixels:
            raise too_large(image.width, image.height, max_pixels)
        if image.format != "MPO" and (pictures := getattr(image, "n_frames", 1)) > 1:
            raise ImageError(f"found {pictures} pictures in one {image.format} file; the file must have exactly one")
        yield image


@contextlib.contextmanager
def _own_limits() -> Iterator[None]:
    """Replace Pillow's limits of pixels (none: callers have their own) and of texts and ICC profiles in PNG files.

    They are global. Threads read images at the same time, so the last one restores the limits.
    """
    global _users, _limits
    with _SWITCHING:
        if _users == 0:
            _limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = None, max(_limits[1], _TEXT_BYTES)
        _users += 1
    try:
        yield
    finally:
        with _SWITCHING:
            _users -= 1
            if _users == 0:
                Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = _limits


@contextlib.contextmanager
def _silent_limits() -> Iterator[None]:
    """Keep Pillow's limits without its warning: icons and others contain images of another size than they say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def _identified(file: BinaryIO, start: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(file, formats=[image_format.label.upper() for image_format in FORMATS.values()])
        except UnidentifiedImageError:
            wanted = listed(image_format.label for image_format in FORMATS.values())
            raise NotForPillow(f"{_guess(start)}; use {wanted}") from None


def _guess(start: bytes) -> str:
    kind = kind_of(start)
    return "not an image" if kind is None or _is_ours(start) else f"{kind} is not supported"


def _is_ours(start: bytes) -> bool:
    return kind_of(start) in {image_format.label for image_format in FORMATS.values()}


def decode_image(data: bytes) -> np.ndarray:
    """Decode the bytes of an 8-bit image file in any format that Pillow reads, and apply the EXIF orientation.

    Everything that loads data sets or measures scores decodes with this function, so all see the same pixels.

    Return a uint8 array: (h, w) for grey or (h, w, 3) for RGB. An alpha channel without transparent pixels is dropped.

    Raises:
        ImageError: the file is empty, truncated, damaged or not an image; the image has transparent pixels, more than
            8 bits per pixel value or too many pixels for its file; or the colour mode is not supported.
    """
    if not data:
        raise ImageError("empty file")
    # Pillow would silently reduce 16-bit colour to 8 bits.
    if data.startswith(PNG_SIGNATURE) and png_header(data).depth == 16:
        raise ImageError("the image has 16 bits per channel; convert the image to 8 bits")
    limits = _own_limits() if _is_ours(data[:START]) else _silent_limits()
    with damage_reported(), limits, Image.open(io.BytesIO(data)) as image:
        claimed = max(width * height for width, height in (image.size, tile_size(image)))
        if claimed > min(MAX_PIXELS, max(_SURE_PIXELS, _PIXELS_PER_BYTE * len(data))):
            raise ImageError(
                f"the image claims {claimed:,} pixels in a file of {len(data):,} bytes; an image of a data set may "
                f"have {_SURE_PIXELS:,} pixels, or {_PIXELS_PER_BYTE:,} for each byte of its file up to {MAX_PIXELS:,}"
            )
        tiff_bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, ())
        if image.mode.startswith(("I", "F")) or any(bits > 8 for bits in tiff_bits):
            raise ImageError("the image has 16 or more bits per channel; convert the image to 8 bits")
        forget_damaged_tags(image)
        image.load()
        if "transparency" in image.info:
            mode = "LA" if image.mode in ("1", "L") else "RGBA"
        elif (mode := _DATA_MODES.get(image.mode, "")) == "":
            raise ImageError(f"colour mode {image.mode} is not supported; convert the image to grey or RGB")
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
        if mode in ("LA", "RGBA"):
            if pixels[..., -1].min() < 255:
                raise ImageError("the image has an alpha channel with transparent pixels; convert the image to RGB")
            pixels = pixels[..., 0] if mode == "LA" else pixels[..., :3]
        return np.ascontiguousarray(upright(pixels, orientation_of(image)))


def read_image(path: Path) -> np.ndarray:
    """Read an 8-bit image file with `decode_image`. Error messages start with the path."""
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def list_files(folder: Path) -> list[Path]:
    """List the files in a folder, sorted by name. Like BasicSR, skip hidden files (.NAME)."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
