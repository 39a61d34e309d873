"""Read and write 16-bit TIFF files. The package tifffile writes them, and reads the files that OpenCV cannot read."""

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image

from han_arch.compat import require
from han_arch.images.header import Header
from han_arch.images.picture import ImageError, NotForPillow, Picture, damage_reported, opencv_samples, too_large

_INCHES = {2: 1.0, 3: 2.54}  # value of TIFF's ResolutionUnit -> units per inch


def write_tiff16(file: BinaryIO, picture: Picture, software: str, level: int) -> None:
    """Write a picture of uint16 values as TIFF, with ICC profile and DPI. `level` is the compression level, 0 to 9."""
    channels = picture.pixels.shape[2]
    require("tifffile", "tiff").imwrite(
        file,
        picture.pixels[..., 0] if channels == 1 else picture.pixels,
        photometric="minisblack" if channels < 3 else "rgb",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        compression="zlib",
        compressionargs={"level": level},
        iccprofile=picture.icc,
        software=software,
        metadata=None,
        resolution=picture.dpi,
        resolutionunit="INCH" if picture.dpi else None,
    )


def read_colour_tiff16(image: Image.Image, data: bytes) -> np.ndarray | None:
    """Read a 16-bit RGB or RGBA TIFF file as uint16, (h, w, 3 or 4). Return None for other files.

    Raises:
        NotForPillow: the file stores each channel as a separate plane, which OpenCV reads wrongly.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(ExifTags.Base.BitsPerSample, (8,))
    if image.mode not in ("RGB", "RGBA") or set(bits if isinstance(bits, tuple) else (bits,)) != {16}:
        return None
    if tags.get(ExifTags.Base.PlanarConfiguration) == 2:
        raise NotForPillow("the file stores 16-bit channels as separate planes")
    return opencv_samples(image, data)


def read_tiff16(data: bytes, max_pixels: int, examine: Callable[[Header], None]) -> Picture | None:
    """Read a 16-bit TIFF file with 1 to 4 channels, interleaved or in planes. Return None if the file is not a TIFF.

    Raises:
        ImageError: the file is damaged, is not 16-bit, has more than 4 channels or several pictures, or is too large.
        UserError: the package tifffile is not installed.
    """
    if not data.startswith((b"II*\0", b"MM\0*")):
        return None
    package = require("tifffile", "tiff")
    # For a damaged file, tifffile raises many types of exceptions.
    with damage_reported((Exception,)), package.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        channels = page.samplesperpixel
        if len(file.pages) != 1 or page.dtype != np.uint16 or page.axes not in ("YX", "YXS", "SYX") or channels > 4:
            raise ImageError("unsupported TIFF file; use one picture with 1 to 4 channels of 8-bit or 16-bit integers")
        if page.imagelength * page.imagewidth > max_pixels:
            raise too_large(page.imagewidth, page.imagelength, max_pixels)
        size = page.imagelength * page.imagewidth * channels * 2
        tile = 2 * channels * page.tilewidth * page.tilelength
        examine(Header((page.imagelength, page.imagewidth, channels), 2, 4 * size + tile))
        samples = page.asarray()
        planes = page.axes == "SYX"
        samples = samples.transpose(1, 2, 0) if planes else samples.reshape(*samples.shape[:2], channels)
        if samples.shape != (page.imagelength, page.imagewidth, channels):  # for example, a file without any strip
            raise ImageError(f"found {samples.size} pixel values; the file needs {page.size}")
        unit = _INCHES.get(int(page.resolutionunit))
        dpi = tuple(value * unit for value in page.resolution) if unit and "XResolution" in page.tags else None
        picture = Picture(samples, page.iccprofile, dpi, xmp=page.tags.valueof("XMP"))
        return picture.normalised(int(page.tags.valueof("Orientation", default=1)))
