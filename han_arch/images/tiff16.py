"""16-bit TIFF by the tifffile package: written; and read where Pillow or OpenCV fail, grey with alpha and planes."""

import io
from typing import Any, BinaryIO

import numpy as np

from han_arch.errors import UserError
from han_arch.images.picture import Picture, PictureError, checked_profile, too_large, upright

_ORIENTATION = "Orientation"
_INCHES = {2: 1.0, 3: 2.54}  # TIFF's resolution unit -> how many of it are an inch


def tifffile() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UserError("16-bit TIFF needs the tifffile package (pip install tifffile)") from error
    return tifffile


def write_tiff16(file: BinaryIO, picture: Picture, software: str, level: int) -> None:
    """Write uint16 samples with ICC profile and DPI, deflated (level 0 to 9)."""
    channels = picture.pixels.shape[2]
    resolution: dict[str, Any] = {}
    if picture.dpi:
        resolution = {"resolution": picture.dpi, "resolutionunit": "INCH"}
    tifffile().imwrite(
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
        **resolution,
    )


def read_tiff16(data: bytes, max_pixels: int) -> Picture:
    """Read a TIFF of 16-bit samples, in 1 to 4 channels, interleaved or in planes.

    Raises:
        PictureError: it is of another kind, damaged, or has more pixels.
        UserError: tifffile is not installed.
    """
    package = tifffile()
    try:
        with package.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            channels = page.samplesperpixel
            if len(file.pages) != 1 or page.dtype != np.uint16 or page.axes not in ("YX", "YXS", "SYX") or channels > 4:
                raise PictureError(
                    "a TIFF whose samples are not read; wanted one picture of 8 or 16 bit integers in 1 to 4 channels"
                )
            if page.imagelength * page.imagewidth > max_pixels:
                raise too_large(page.imagewidth, page.imagelength, max_pixels)
            samples = page.asarray()
            samples = (
                samples.transpose(1, 2, 0) if page.axes == "SYX" else samples.reshape(*samples.shape[:2], channels)
            )
            icc, notes = checked_profile(page.iccprofile, channels)
            orientation = page.tags[_ORIENTATION].value if _ORIENTATION in page.tags else 1
            unit = _INCHES.get(int(page.resolutionunit))
            dpi = tuple(value * unit for value in page.resolution) if unit and "XResolution" in page.tags else None
            return Picture(upright(samples, int(orientation)), icc, dpi, None, notes)
    except PictureError:
        raise
    except Exception as error:  # whatever a damaged file leads tifffile into
        raise PictureError(f"damaged or cut short: {error}") from error
