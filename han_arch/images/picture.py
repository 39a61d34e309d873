"""A picture: its samples with colour profile, resolution and EXIF data; conversion from and to Pillow images."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

_SAMPLES = ("L", "LA", "RGB", "RGBA")
_SPACES = {1: "GRAY", 2: "GRAY", 3: "RGB ", 4: "RGB "}
# Modes that are converted, and the mode they become: bilevel, palettes, premultiplied alpha.
_PLAIN = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "P": "RGB", "RGBX": "RGB", "YCbCr": "RGB"}
_WORDS = {"1": "black and white", "P": "palette", "PA": "palette"}  # modes in notes
_TRANSPOSED, _ROWS_FLIPPED, _COLUMNS_FLIPPED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)  # EXIF orientations
# EXIF tags that describe the photo; the other tags describe the source file (size, thumbnail, strips) and are dropped.
_KEPT = [ExifTags.Base[name] for name in ("ImageDescription", "Make", "Model", "DateTime", "Artist", "Copyright")]
_PIXEL_SIZES_AND_MAKER_NOTE = (0xA002, 0xA003, 0x927C)  # a maker's note holds offsets into the source file
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _CENTIMETRE = 282, 283, 296, 3
# What Pillow raises for damaged files and metadata.
_FAULTS = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, LookupError, ArithmeticError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


class ImageError(ValueError):
    """An image that cannot be read or written; the message gives the reason without the file's name."""


class NotForPillow(ImageError):
    """Pillow cannot read the file; another reader may."""


def too_large(width: int, height: int, max_pixels: int) -> ImageError:
    """Return the error for a picture that exceeds the limit."""
    return ImageError(f"{width}x{height} are more than {max_pixels:,} pixels; raise --max-pixels to read it")


@contextlib.contextmanager
def damage_reported(faults: tuple[type[Exception], ...] = _FAULTS) -> Iterator[None]:
    """Raise `ImageError` for the errors that a library raises while it reads a damaged file."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image") from None
    except faults as error:
        raise ImageError(f"damaged or cut short: {error}") from error


@dataclass(frozen=True)
class Picture:
    """Samples and their metadata.

    Attributes:
        pixels: (h, w, 1 to 4): grey, grey and alpha, RGB, RGB and alpha; upright; uint8, uint16 or float32 in [0, 1].
        icc: ICC profile of the samples.
        dpi: pixels per inch, horizontal and vertical.
        exif: EXIF data without orientation and thumbnail, as Pillow writes it.
        notes: conversions so far, for the user.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = ()


def from_pillow(image: Image.Image, samples: np.ndarray | None = None) -> Picture:
    """Convert a Pillow image to an upright picture.

    Args:
        image: the image; it is loaded, not changed.
        samples: (h, w, 1 to 4), used in place of Pillow's, which would have only 8 bits.

    Raises:
        ImageError: unsupported colour mode.
    """
    exif, orientation, notes = _exif(image)
    icc = image.info.get("icc_profile") or None
    if samples is None:
        samples, icc, note = _samples(image, icc)
        notes += note
    icc, note = checked_profile(icc, samples.shape[2])
    return Picture(upright(samples, orientation), icc, _dpi(image, orientation), exif, notes + note)


def to_pillow(picture: Picture) -> Image.Image:
    """Convert a picture of uint8 or grey uint16 samples to a Pillow image; ICC profile and DPI go into its info.

    Raises:
        ImageError: Pillow has no mode for these samples.
    """
    pixels = picture.pixels
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and pixels.shape[2] == 1):
        raise ImageError(f"Pillow has no mode for {pixels.shape[2]} channels of {pixels.dtype}")
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.dpi:
        image.info["dpi"] = picture.dpi
    return image


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of (h, w, c) samples with an EXIF orientation applied."""
    if orientation in _TRANSPOSED:
        samples = samples.transpose(1, 0, 2)
    return samples[:: -1 if orientation in _ROWS_FLIPPED else 1, :: -1 if orientation in _COLUMNS_FLIPPED else 1]


def opencv_samples(image: Image.Image, data: bytes) -> np.ndarray:
    """Decode a file's 16-bit samples with OpenCV: uint16, (h, w, 1, 3 or 4). Pillow has opened the same file as image.

    Raises:
        ImageError: OpenCV cannot decode them.
    """
    image.load()  # raises for a truncated file, which OpenCV does not report
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.shape[:2] != (image.height, image.width):
        raise ImageError("OpenCV cannot read these 16-bit samples")
    if samples.ndim == 2:
        return samples[..., None]
    return cv2.cvtColor(samples, cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, samples)


def _samples(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Return samples (h, w, c), their ICC profile, and notes."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16, copy=False)[..., None], icc, ()
    if image.mode == "CMYK":
        return _from_cmyk(image, icc)
    mode = _PLAIN.get(image.mode, image.mode)
    if "transparency" in image.info and image.mode in ("1", "L", "RGB", "P"):
        mode = "LA" if image.mode in ("1", "L") else "RGBA"
    if mode not in _SAMPLES:
        wanted = "grey or RGB of 8 or 16 bits, a palette, or CMYK"
        raise ImageError(f"colour mode {image.mode} is not supported; wanted {wanted}")
    samples = np.asarray(image if image.mode == mode else image.convert(mode))
    note = () if image.mode in _SAMPLES else (f"converted {_WORDS.get(image.mode, image.mode)} to {mode}",)
    return (samples if samples.ndim == 3 else samples[..., None]), icc, note


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Convert to sRGB with the image's profile, or to RGB with Pillow's formula when it has none."""
    note = "converted CMYK without ICC profile to RGB with a simple formula"
    if icc:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            rgb = cast(Image.Image, ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB"))
            return np.asarray(rgb), srgb.tobytes(), ("converted CMYK to sRGB with its ICC profile",)
        except (ImageCms.PyCMSError, OSError):
            note = "converted CMYK to RGB without its ICC profile, which is damaged"
    return np.asarray(image.convert("RGB")), None, (note,)


def checked_profile(icc: bytes | None, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the profile if it fits the number of channels, else None and a note."""
    if icc is None:
        return None, ()
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError):
        return None, ("dropped its ICC profile, which is damaged",)
    if space != _SPACES[channels]:
        return None, (f"dropped its ICC profile, which is for {space.strip()}",)
    return icc, ()


def _exif(image: Image.Image) -> tuple[bytes | None, int, tuple[str, ...]]:
    """Return the EXIF data to keep, the orientation, and notes."""
    try:
        old = image.getexif()
        orientation = old.get(ExifTags.Base.Orientation, 1)
        exif = Image.Exif()
        exif.update({tag: old[tag] for tag in _KEPT if tag in old})
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            kept = {tag: value for tag, value in old.get_ifd(ifd).items() if tag not in _PIXEL_SIZES_AND_MAKER_NOTE}
            if kept:
                exif[ifd] = kept
        content = exif.tobytes() if len(exif) else None
    except _FAULTS:
        return None, 1, ("dropped its EXIF data, which is damaged",)
    return content, orientation if isinstance(orientation, int) else 1, ()


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    """Return the resolution from Pillow's info, else from the EXIF data, where WebP stores it."""
    try:
        exif = image.getexif() if image.format == "WEBP" else {}
        unit = 2.54 if exif.get(_RESOLUTION_UNIT) == _CENTIMETRE else 1
        in_exif = [float(exif[tag]) * unit for tag in (_X_RESOLUTION, _Y_RESOLUTION) if tag in exif]
        across, down = (float(value) for value in image.info.get("dpi", in_exif))
    except _FAULTS:
        return None
    if not (0 < across < 1e6 and 0 < down < 1e6):
        return None
    return (down, across) if orientation in _TRANSPOSED else (across, down)


def most_detailed_window(image: np.ndarray, size: int) -> tuple[int, int]:
    """Find the size x size window with the largest sum of absolute steps between neighbouring pixels.

    Args:
        image: (h, w, channels), of any type and range.
        size: at most min(h, w).

    Returns:
        Top and left edge of the window; the first such window when several are equal.
    """
    grey = image.astype(np.float64).mean(axis=-1)
    detail = np.zeros_like(grey)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    return largest_window(detail, size, size)


def largest_window(values: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Find the window of (h, w) values with the largest sum; return the first one's top and left edge."""
    total = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)
