"""Writers of PNG, JPEG, WebP and TIFF, which `formats.py` lists; `encode_png` for data sets."""

from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.images.picture import Picture, to_pillow
from han_arch.images.png16 import write_png16
from han_arch.images.tiff16 import write_tiff16

_SOFTWARE, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _INCH = 305, 282, 283, 296, 2
PNG_LEVEL = 1  # of data sets, as in BasicSR; photos are 1 % larger than at level 3, in three quarters of the time
_FINE_CHROMA_QUALITY = 90  # from this quality on, JPEG keeps colour at full resolution


@dataclass(frozen=True)
class WriteOptions:
    """Options of the writers.

    Attributes:
        quality: 1 to 100, for JPEG and WebP.
        lossless: write WebP without loss.
        png_level: compression level of PNG and 16-bit TIFF, 0 to 9.

    Raises:
        UserError: a number out of its range.
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
    """Write a PNG file of 8 or 16 bits; see `ImageFormat`."""
    if picture.pixels.dtype == np.uint16:
        write_png16(file, picture, software, options.png_level)
    else:
        texts = PngInfo()
        texts.add_text("Software", software)
        _save(file, picture, software, "png", pnginfo=texts, compress_level=options.png_level)


def write_jpeg(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a JPEG file; see `ImageFormat`."""
    subsampling = 0 if options.quality >= _FINE_CHROMA_QUALITY else 2
    _save(file, picture, software, "jpeg", quality=options.quality, subsampling=subsampling)


def write_webp(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a WebP file; see `ImageFormat`."""
    _save(file, picture, software, "webp", quality=options.quality, lossless=options.lossless, exact=True)


def write_tiff(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a TIFF file of 8 or 16 bits; see `ImageFormat`."""
    if picture.pixels.dtype == np.uint16:
        write_tiff16(file, picture, software, options.png_level)
    else:
        _save(file, picture, software, "tiff", compression="tiff_adobe_deflate")


def fit_tiff(picture: Picture) -> Picture:
    """Check that 16-bit samples can be written; drop the EXIF data that TIFF is written without, with a note.

    Raises:
        UserError: tifffile is not installed.
    """
    if picture.pixels.dtype == np.uint16:
        require("tifffile", "tiff")
        note = ("dropped its EXIF data: 16-bit TIFF is written without",) if picture.exif else ()
        return replace(picture, exif=None, notes=picture.notes + note)
    exif = Image.Exif()
    exif.load(picture.exif or b"")
    nested = [ifd for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if ifd in exif]
    if not nested:
        return picture
    for ifd in nested:
        del exif[ifd]
    note = ("dropped the camera's and GPS's EXIF data: Pillow cannot write these to a compressed TIFF",)
    return replace(picture, exif=exif.tobytes() if len(exif) else None, notes=picture.notes + note)


def _save(file: BinaryIO, picture: Picture, software: str, name: str, **options: Any) -> None:
    """Write 8-bit samples with Pillow."""
    exif = Image.Exif()
    if picture.exif:
        exif.load(picture.exif)
    exif[_SOFTWARE] = software
    if picture.dpi and name == "webp":  # WebP has no other place for it
        exif.update({_X_RESOLUTION: picture.dpi[0], _Y_RESOLUTION: picture.dpi[1], _RESOLUTION_UNIT: _INCH})
    elif picture.dpi:
        options["dpi"] = picture.dpi
    to_pillow(picture).save(file, name, exif=exif, icc_profile=picture.icc, **options)


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 image, (h, w) grey or (h, w, 3) RGB, as PNG."""
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise RuntimeError(f"OpenCV could not write an image of shape {image.shape} as PNG")
    return buffer.tobytes()
