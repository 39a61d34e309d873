"""The table of supported image formats. Checks, option values and help texts use this table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from han_arch.images.header import Header
from han_arch.images.metadata import fitted
from han_arch.images.picture import ImageError, Picture
from han_arch.images.png16 import read_png16
from han_arch.images.tiff16 import read_colour_tiff16, read_tiff16
from han_arch.images.write import WriteOptions, fit_tiff, write_jpeg, write_png, write_tiff, write_webp

PILLOW_BYTES = 5  # bytes of memory per pixel while Pillow reads or writes a file; measured on 12 megapixels: 4


def read_only(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Raise ImageError. This is the writing function of formats that can only be read."""
    raise ImageError(f"cannot write this format; use {listed(other.label for other in WRITTEN.values())}")


@dataclass(frozen=True)
class ImageFormat:
    """An image file format: its name, its limits, and the functions that read and write it.

    Attributes:
        label: name of the format in messages. In capitals, it is also Pillow's name for the format.
        suffixes: file name suffixes of the format. New files get the first one.
        write: function that writes a picture. Its arguments are a seekable file, a picture that `fit` returned, the
            write options, and the text for the metadata field Software.
        bits: largest number of bits per pixel value that `write` can store, 8 or 16.
        grey: whether `write` can store grey images. If not, `fit` converts grey to RGB.
        lossy: whether `write` uses the option `quality`.
        longest_side: largest height or width in pixels; None if there is no limit.
        adapt: function that `fit` calls last, for conversions and checks of this format only.
        bytes_a_pixel: function that returns the memory that `write` needs, in bytes per pixel. The memory of the
            picture itself is not counted.
        read: function that reads 16-bit pixel values, which Pillow would reduce to 8 bits. It takes the Pillow image
            and the bytes of the file, and returns uint16, (h, w, 1 to 4). It returns None if Pillow can read all bits.
        read_other: function that reads files which Pillow cannot read. It takes the bytes of the file and the largest
            allowed number of pixels and a function to call with the header, and returns a picture. It returns None for
            files of other formats.
    """

    label: str
    suffixes: tuple[str, ...]
    write: Callable[[BinaryIO, Picture, WriteOptions, str], None] = read_only
    bits: int = 8
    grey: bool = True
    alpha: bool = True
    lossy: bool = False
    longest_side: int | None = None
    adapt: Callable[[Picture], Picture] = lambda picture: picture
    bytes_a_pixel: Callable[[WriteOptions], int] = lambda options: PILLOW_BYTES
    read: Callable[[Image.Image, bytes], np.ndarray | None] = lambda image, data: None
    read_other: Callable[[bytes, int, Callable[[Header], None]], Picture | None] = lambda *_: None

    @property
    def name(self) -> str:
        """The name of the format in command-line options, such as "png"."""
        return self.label.lower()

    def check_sides(self, height: int, width: int) -> None:
        """Raise ImageError if the format cannot store a picture of this size in pixels."""
        if self.longest_side is not None and max(height, width) > self.longest_side:
            others = listed(other.name for other in WRITTEN.values() if other.longest_side is None)
            raise ImageError(
                f"{self.name} allows at most {self.longest_side} pixels per side, but the upscaled image would have "
                f"{width}x{height} pixels; use --format {others}"
            )

    def fit(self, picture: Picture, height: int, width: int) -> Picture:
        """Convert a picture so that the format can store it. Add a note for each change.

        height and width are the size of the upscaled picture in pixels. To get the notes and errors before upscaling,
        pass one pixel of the input as `picture`.

        Raises:
            ImageError: the format cannot store a picture with this size or with alpha.
            UserError: the package that writes the format is not installed.
        """
        channels = picture.pixels.shape[2]
        self.check_sides(height, width)
        if not self.alpha and channels in (2, 4):
            others = listed(other.name for other in WRITTEN.values() if other.alpha)
            raise ImageError(f"{self.name} cannot store the image's alpha channel; use --format {others}")
        pixels, icc, notes = picture.pixels, picture.icc, picture.notes
        if pixels.dtype == np.uint16 and self.bits == 8:
            pixels = _eight_bits(pixels)
            notes += (f"rounded 16 bits per channel to 8, because {self.name} cannot store 16",)
        if not self.grey and channels < 3:
            pixels = np.take(pixels, [0, 0, 0] + [1] * (channels == 2), axis=2)
            icc = None
            notes += (f"converted grey to RGB, because {self.name} cannot store grey images",)
        picture = self.adapt(replace(picture, pixels=pixels, icc=icc, notes=notes))
        return fitted(picture, self.name, height * width * pixels.shape[2] * pixels.itemsize)


_ALL = (
    ImageFormat("PNG", (".png",), write_png, bits=16, read=read_png16),
    # Pillow's JPEG reader also opens MPO files, which phones write, and returns their first picture.
    ImageFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), write_jpeg, alpha=False, lossy=True, longest_side=65_500),
    ImageFormat(
        "WebP",
        (".webp",),
        write_webp,
        grey=False,
        lossy=True,
        longest_side=16_383,
        # Bytes per pixel, measured on 12 megapixels: 18 lossy, 42 lossless.
        bytes_a_pixel=lambda options: 46 if options.lossless else 20,
    ),
    ImageFormat(
        "TIFF", (".tif", ".tiff"), write_tiff, bits=16, adapt=fit_tiff, read=read_colour_tiff16, read_other=read_tiff16
    ),
    ImageFormat("BMP", (".bmp",)),
)
FORMATS = {image_format.name: image_format for image_format in _ALL}
WRITTEN = {name: image_format for name, image_format in FORMATS.items() if image_format.write is not read_only}
SUFFIXES = tuple(suffix for image_format in FORMATS.values() for suffix in image_format.suffixes)
WRITTEN_SUFFIXES = tuple(suffix for image_format in WRITTEN.values() for suffix in image_format.suffixes)


def written_format(path: Path) -> ImageFormat | None:
    """Return the format for a file name's suffix; None if no writable format has this suffix."""
    suffix = path.suffix.lower()
    return next((image_format for image_format in WRITTEN.values() if suffix in image_format.suffixes), None)


def listed(words: Iterable[str], last: str = "or") -> str:
    """Join words for a message, such as "PNG, JPEG or BMP"."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    result = np.empty(pixels.shape, np.uint8)
    for row in range(len(pixels)):  # row by row, to avoid a uint32 copy of the complete image
        result[row] = (pixels[row].astype(np.uint32) + 128) // 257
    return result
