"""The table of image formats: one record for each, which all checks, choices and help texts read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from han_arch.images.picture import ImageError, Picture
from han_arch.images.png16 import read_png16
from han_arch.images.tiff16 import read_colour_tiff16, read_tiff16
from han_arch.images.write import WriteOptions, fit_tiff, write_jpeg, write_png, write_tiff, write_webp

PILLOW_BYTES = 5  # memory for a pixel while Pillow reads or writes a file; measured on 12 megapixels: 4


def read_only(file: BinaryIO, picture: Picture, options: WriteOptions, software: str) -> None:
    """Refuse: the writer of a format that is only read."""
    raise ImageError(f"this format is only read; wanted {listed(other.label for other in WRITTEN.values())}")


@dataclass(frozen=True)
class ImageFormat:
    """A format of image files.

    Attributes:
        label: the format's name in texts; in capitals, Pillow's name.
        suffixes: endings of file names; new files get the first.
        write: writes a picture that `fit` returned. Its arguments are a seekable file, the picture, options, and the
            Software for the metadata. By default the format is only read.
        bits: the most bits of a sample that `write` stores, 8 or 16.
        grey: whether `write` stores grey; if not, grey is written as RGB.
        alpha: whether `write` stores alpha.
        lossy: whether the quality option applies.
        longest_side: the most pixels of a side; None: no limit.
        adapt: a further conversion or check before `write`, with notes.
        bytes_a_pixel: memory that `write` needs for a pixel besides the picture.
        read: reads samples that Pillow would cut to 8 bits: (Pillow's image, the file's bytes) -> (h, w, 1 to 4) of
            uint16. It returns None where Pillow reads all bits.
        read_other: reads files that Pillow cannot: (the file's bytes, the most pixels) -> picture.
        signatures: first bytes of the files that `read_other` reads.
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
    read_other: Callable[[bytes, int], Picture] | None = None
    signatures: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """The name in options, such as "png"."""
        return self.label.lower()

    def fit(self, picture: Picture, height: int, width: int) -> Picture:
        """Convert a picture to samples that the format stores, with notes on the changes.

        Args:
            picture: the result; or the input, to find problems before the work starts.
            height, width: pixels of the result.

        Raises:
            ImageError: the format cannot store it.
            UserError: the package that writes it is not installed.
        """
        channels = picture.pixels.shape[2]
        if self.longest_side is not None and max(height, width) > self.longest_side:
            others = listed(other.name for other in WRITTEN.values() if other.longest_side is None)
            raise ImageError(
                f"{self.name} stores sides of at most {self.longest_side} pixels, not {width}x{height}; use {others}"
            )
        if not self.alpha and channels in (2, 4):
            others = listed(other.name for other in WRITTEN.values() if other.alpha)
            raise ImageError(f"{self.name} stores no alpha; use --format {others}")
        pixels, icc, notes = picture.pixels, picture.icc, picture.notes
        if pixels.dtype == np.uint16 and self.bits == 8:
            pixels = _eight_bits(pixels)
            notes += (f"rounded 16 bits to 8, the most that {self.name} stores",)
        if not self.grey and channels < 3:
            pixels = np.take(pixels, [0, 0, 0] + [1] * (channels == 2), axis=2)
            icc = None
            notes += (f"converted grey to RGB, because {self.name} stores no grey",)
        return self.adapt(replace(picture, pixels=pixels, icc=icc, notes=notes))


FORMATS = {
    image_format.name: image_format
    for image_format in (
        ImageFormat("PNG", (".png",), write_png, bits=16, read=read_png16),
        # also MPO, which phones write: Pillow gives the first picture
        ImageFormat(
            "JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), write_jpeg, alpha=False, lossy=True, longest_side=65_500
        ),
        ImageFormat(
            "WebP",
            (".webp",),
            write_webp,
            grey=False,
            lossy=True,
            longest_side=16_383,
            # Measured on 12 megapixels: 18, without loss 42.
            bytes_a_pixel=lambda options: 46 if options.lossless else 20,
        ),
        ImageFormat(
            "TIFF",
            (".tif", ".tiff"),
            write_tiff,
            bits=16,
            adapt=fit_tiff,
            read=read_colour_tiff16,
            read_other=read_tiff16,
            signatures=(b"II*\0", b"MM\0*"),
        ),
        ImageFormat("BMP", (".bmp",)),
    )
}
WRITTEN = {name: image_format for name, image_format in FORMATS.items() if image_format.write is not read_only}
SUFFIXES = tuple(suffix for image_format in FORMATS.values() for suffix in image_format.suffixes)
WRITTEN_SUFFIXES = tuple(suffix for image_format in WRITTEN.values() for suffix in image_format.suffixes)


def written_format(path: Path) -> ImageFormat | None:
    """Return the format that a file's name asks for; None when no writer has this suffix."""
    suffix = path.suffix.lower()
    return next((image_format for image_format in WRITTEN.values() if suffix in image_format.suffixes), None)


def listed(words: Iterable[str], last: str = "or") -> str:
    """Join words for a text: "PNG, JPEG or BMP"."""
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    result = np.empty(pixels.shape, np.uint8)
    for row in range(len(pixels)):  # row by row: no copy of the whole in wider numbers
        result[row] = (pixels[row].astype(np.uint32) + 128) // 257
    return result
