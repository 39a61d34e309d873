"""Write PNG, JPEG, WebP and TIFF files. The table in formats.py uses these functions; data sets use `encode_png`."""

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
        texts = PngInfo()
        texts.add_text("Software", software)
        _save(file, picture, software, "png", pnginfo=texts, compress_level=options.png_level)


def write_jpeg(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a JPEG file; see `ImageFormat.write`."""
    subsampling = 0 if options.quality >= _FINE_CHROMA_QUALITY else 2
    _save(file, picture, software, "jpeg", quality=options.quality, subsampling=subsampling)


def write_webp(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a WebP file; see `ImageFormat.write`."""
    _save(file, picture, software, "webp", quality=options.quality, lossless=options.lossless, exact=True)


def write_tiff(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Write a picture as a TIFF file with 8 or 16 bits per channel. `ImageFormat.write` explains the arguments."""
    if picture.pixels.dtype == np.uint16:
        write_tiff16(file, picture, software, options.png_level)
    else:
        _save(file, picture, software, "tiff", compression="tiff_adobe_deflate")


def fit_tiff(picture: Picture) -> Picture:
    """Prepare a picture for TIFF. If EXIF data cannot be written, drop them and add a note.

    Raises:
        UserError: the picture has 16 bits, and the package tifffile is not installed.
    """
    if picture.pixels.dtype == np.uint16:
        require("tifffile", "tiff")
        note = ("dropped the EXIF data, which cannot be written to 16-bit TIFF",) if picture.exif else ()
        return replace(picture, exif=None, notes=picture.notes + note)
    exif = Image.Exif()
    exif.load(picture.exif or b"")
    nested = [ifd for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) if ifd in exif]
    if not nested:
        return picture
    for ifd in nested:
        del exif[ifd]
    note = ("dropped camera and GPS data from EXIF, because Pillow cannot write these data to a compressed TIFF file",)
    return replace(picture, exif=exif.tobytes() if len(exif) else None, notes=picture.notes + note)


def _save(file: BinaryIO, picture: Picture, software: str, name: str, **options: Any) -> None:
    """Write an 8-bit picture with Pillow. `name` is Pillow's format name, and `options` go to Pillow's writer."""
    exif = Image.Exif()
    if picture.exif:
        exif.load(picture.exif)
    exif[ExifTags.Base.Software] = software
    if picture.dpi and name == "webp":  # WebP can store the resolution only in EXIF
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = picture.dpi
        exif[ExifTags.Base.ResolutionUnit] = 2  # inches
    elif picture.dpi:
        options["dpi"] = picture.dpi
    to_pillow(picture).save(file, name, exif=exif, icc_profile=picture.icc, **options)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image as PNG. The image is uint8, (h, w) for grey or (h, w, 3) for RGB."""
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise RuntimeError(f"OpenCV could not encode an image of shape {image.shape} as PNG")
    return buffer.tobytes()
