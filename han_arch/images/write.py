"""Image files out: PNG, JPEG, WebP and TIFF, written beside their place and moved there when they are whole."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from han_arch.images.picture import Picture, PictureError, to_pillow
from han_arch.images.png16 import write_png16
from han_arch.images.tiff16 import tifffile, write_tiff16

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif"}
FORMAT_OF = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
_LONGEST_SIDE = {"jpeg": 65_500, "webp": 16_383}
_SOFTWARE, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _INCH = 305, 282, 283, 296, 2
_FINE_CHROMA_QUALITY = 90  # from here on JPEG keeps colour at full resolution


@dataclass(frozen=True)
class Style:
    """How a file is written.

    Attributes:
        format: "png", "jpeg", "webp" or "tiff".
        quality: 1 to 100, for JPEG and WebP.
        lossless: WebP without loss.
        png_level: 0 to 9, how hard PNG and TIFF are compressed.
    """

    format: str
    quality: int = 95
    lossless: bool = False
    png_level: int = 6

    @property
    def bytes_a_pixel(self) -> int:
        """What writing takes besides the picture: measured on 12 megapixels, 4 for most, 18 and 42 for WebP."""
        if self.format == "webp":
            return 46 if self.lossless else 20
        return 5


def fitting(picture: Picture, style: Style, height: int, width: int) -> Picture:
    """The picture as its format can hold it, with notes on what was changed; asked before the work, of the input.

    Args:
        picture: input or result.
        style: the format.
        height: of the result.
        width: of the result.

    Raises:
        PictureError: the format cannot hold it.
        UserError: the package that writes it is not installed.
    """
    channels, longest = picture.pixels.shape[2], _LONGEST_SIDE.get(style.format)
    if longest is not None and max(height, width) > longest:
        raise PictureError(f"{style.format} holds sides of {longest} pixels, not {width}x{height}; use png or tiff")
    if style.format == "jpeg" and channels in (2, 4):
        raise PictureError("jpeg holds no alpha; use --format png, webp or tiff")
    notes = picture.notes
    pixels, icc = picture.pixels, picture.icc
    if pixels.dtype == np.uint16 and style.format in ("jpeg", "webp"):
        pixels = _eight_bits(pixels)
        notes += (f"16 bits became 8, which is what {style.format} holds",)
    if pixels.dtype == np.uint16 and style.format == "tiff":
        tifffile()
        if picture.exif:
            notes += ("its EXIF data is left out, which 16-bit TIFF is written without",)
    if style.format == "webp" and channels < 3:
        pixels = np.concatenate([pixels[..., :1]] * 3 + ([pixels[..., 1:]] if channels == 2 else []), axis=2)
        icc = None
        notes += ("grey became three equal channels, which is what webp holds",)
    return replace(picture, pixels=pixels, icc=icc, notes=notes)


def write(file: BinaryIO, picture: Picture, style: Style, software: str) -> None:
    """Write a picture that `fitting` returned.

    Args:
        file: at its beginning; seekable.
        picture: uint8 or uint16.
        style: the format.
        software: recorded in the file's metadata as the Software that made it.
    """
    if picture.pixels.dtype == np.uint16 and style.format == "png":
        write_png16(file, picture, {"Software": software}, style.png_level)
    elif picture.pixels.dtype == np.uint16:
        write_tiff16(file, picture, software, style.png_level)
    else:
        to_pillow(picture).save(file, style.format, **_options(picture, style, software))


def _options(picture: Picture, style: Style, software: str) -> dict[str, Any]:
    exif = Image.Exif()
    if picture.exif:
        exif.load(picture.exif)
    exif[_SOFTWARE] = software
    options: dict[str, Any] = {"exif": exif, "icc_profile": picture.icc}
    if picture.dpi and style.format == "webp":
        exif.update({_X_RESOLUTION: picture.dpi[0], _Y_RESOLUTION: picture.dpi[1], _RESOLUTION_UNIT: _INCH})
    elif picture.dpi:
        options["dpi"] = picture.dpi
    if style.format == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Software", software)
        options["compress_level"] = style.png_level
    elif style.format == "jpeg":
        options["quality"] = style.quality
        options["subsampling"] = 0 if style.quality >= _FINE_CHROMA_QUALITY else 2
    elif style.format == "webp":
        options |= {"quality": style.quality, "lossless": style.lossless, "exact": True}
    else:
        options["compression"] = "tiff_adobe_deflate"
    return options


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    result = np.empty(pixels.shape, np.uint8)
    for row in range(len(pixels)):  # row by row: no copy of the whole in wider numbers
        result[row] = (pixels[row].astype(np.uint32) + 128) // 257
    return result


@contextlib.contextmanager
def in_place_of(target: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A file to write, which becomes target when the block ends without an exception, else is removed.

    Raises:
        FileExistsError: target is there, or has come meanwhile, and overwrite is not set.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with beside.open("w+b") as file:
            yield file
        if overwrite:
            beside.replace(target)
        else:
            _move_without_replacing(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _move_without_replacing(beside: Path, target: Path) -> None:
    try:
        os.link(beside, target)  # fails where a rename would replace
    except FileExistsError:
        raise FileExistsError(f"{target} exists; --overwrite replaces it") from None
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists; --overwrite replaces it") from None
        beside.replace(target)
