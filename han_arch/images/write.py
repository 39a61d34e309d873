"""Write PNG, JPEG, WebP and TIFF files. The table in formats.py uses these functions; data sets use `encode_png`."""

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import ExifTags
from PIL.PngImagePlugin import PngInfo

from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.images.exif import Tags, packed
from han_arch.images.picture import Picture, to_pillow
from han_arch.images.png16 import png_extras, write_png16
from han_arch.images.tiff16 import write_tiff16
from han_arch.images.tiff_tags import add_tags

PNG_LEVEL = 1  # for data sets, as in BasicSR; photos: 1 % larger files than at level 3, in 3/4 of the time
_FINE_CHROMA_QUALITY = 90  # from this quality upwards, JPEG stores colour at full resolution


@dataclass(frozen=True)
class WriteOptions:
    """Options for writing image files.

    `quality`, 1 to 100, is for JPEG and WebP files. `lossless` is for WebP files. `png_level`, 0 to 9, is the
    compression level of PNG and 16-bit TIFF files.

    Raises:
        UserError: quality or png_level is out of its range.
    """

    quality: int = 95
    lossless: bool = False
    png_level: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality must be 1 to 100; got {self.quality}")
        if not 0 <= self.png_level <= 9:
            raise UserError(f"--png-level must be 0 to 9; got {self.png_level}")


def write_png(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a PNG file with 8 or 16 bits; see `ImageFormat.write`."""
    if picture.pixels.dtype == np.uint16:
        write_png16(file, picture, software, options.png_level)
    else:
        chunks = PngInfo()
        chunks.add_text("Software", software)
        for chunk, content in png_extras(picture):
            chunks.add(chunk, content)
        _save(file, picture, software, "png", pnginfo=chunks, compress_level=options.png_level)


def write_jpeg(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a JPEG file; see `ImageFormat.write`."""
    subsampling = 0 if options.quality >= _FINE_CHROMA_QUALITY else 2
    segments = b"".join(extra.content for extra in picture.extras if extra.format == "jpeg")
    more = {"extra": segments, "xmp": picture.xmp or b""}
    _save(file, picture, software, "jpeg", quality=options.quality, subsampling=subsampling, **more)


def write_webp(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a WebP file; see `ImageFormat.write`."""
    more = {"lossless": options.lossless, "exact": True, "xmp": picture.xmp or b""}
    _save(file, picture, software, "webp", quality=options.quality, **more)


def write_tiff(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a TIFF file with 8 or 16 bits per channel. `ImageFormat.write` explains the arguments."""
    if picture.pixels.dtype == np.uint16:
        write_tiff16(file, picture, software, options.png_level)
    else:
        _save(file, replace(picture, exif=None), software, "tiff", compression="tiff_adobe_deflate")
    add_tags(file, picture.exif, picture.xmp)


def fit_tiff(picture: Picture) -> Picture:
    """Check that a picture can be written as TIFF.

    Raises:
        UserError: the picture has 16 bits, and the package tifffile is not installed.
    """
    if picture.pixels.dtype == np.uint16:
        require("tifffile", "tiff")
    return picture


def _save(file: BinaryIO, picture: Picture, software: str, name: str, **options: Any) -> None:
    """Write an 8-bit picture with Pillow. `name` is Pillow's format name, and `options` go to Pillow's writer."""
    exif = (picture.exif or Tags()).with_text(ExifTags.Base.Software, software)
    if picture.dpi and name == "webp":  # WebP can store the resolution only in EXIF
        exif = exif.with_dpi(*picture.dpi)
    elif picture.dpi:
        options["dpi"] = picture.dpi
    to_pillow(picture).save(file, name, exif=packed(exif), icc_profile=picture.icc, **options)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image as PNG. The image is uint8, (h, w) for grey or (h, w, 3) for RGB."""
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return buffer.tobytes()
