"""A picture: its samples with colour profile, resolution and EXIF data; conversion from and to Pillow images."""

import io
import struct
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms

_SAMPLES = ("L", "LA", "RGB", "RGBA")
_SPACES = {1: "GRAY", 2: "GRAY", 3: "RGB ", 4: "RGB "}
# Modes that are converted, and the mode they become: bilevel, palettes, premultiplied alpha.
_PLAIN = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
_WORDS = {"1": "black and white", "P": "palette", "PA": "palette"}  # modes in notes
# EXIF orientation -> transpose first?, then flip rows?, flip columns?
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# EXIF tags that describe the photo; the other tags describe the source file (size, thumbnail, strips) and are dropped.
_KEPT = ("ImageDescription", "Make", "Model", "DateTime", "Artist", "Copyright")
_PIXEL_SIZES_AND_MAKER_NOTE = (0xA002, 0xA003, 0x927C)  # a maker's note holds offsets into the source file
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _CENTIMETRE = 282, 283, 296, 3


class PictureError(ValueError):
    """A file that cannot be read or written; the message gives the reason without the file's name."""


class NotForPillow(PictureError):
    """Pillow cannot read the file; another reader may."""


def too_large(width: int, height: int, max_pixels: int) -> PictureError:
    """Return the error for a picture that exceeds the limit."""
    return PictureError(f"{width}x{height} are more than {max_pixels:,} pixels; raise --max-pixels to read it")


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
        PictureError: unsupported colour mode.
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
        PictureError: Pillow has no mode for these samples.
    """
    pixels = picture.pixels
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and pixels.shape[2] == 1):
        raise PictureError(f"Pillow has no mode for {pixels.shape[2]} channels of {pixels.dtype}")
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.dpi:
        image.info["dpi"] = picture.dpi
    return image


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of (h, w, c) samples with an EXIF orientation applied."""
    if orientation in _TURNS:
        transposed, rows, columns = _TURNS[orientation]
        samples = samples.transpose(1, 0, 2) if transposed else samples
        samples = samples[:: -1 if rows else 1, :: -1 if columns else 1]
    return samples


def opencv_samples(image: Image.Image, data: bytes) -> np.ndarray:
    """Decode a file's 16-bit samples with OpenCV.

    Args:
        image: the same file, opened by Pillow.
        data: the file's bytes.

    Returns:
        uint16, (h, w, 1, 3 or 4): grey, RGB, RGB and alpha.

    Raises:
        PictureError: OpenCV cannot decode them.
    """
    image.load()  # raises for a truncated file, which OpenCV does not report
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.shape[:2] != (image.height, image.width):
        raise PictureError("OpenCV cannot read these 16-bit samples")
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
    elif image.mode == "P":
        mode = "RGB"
    if mode not in _SAMPLES:
        wanted = "grey or RGB of 8 or 16 bits, a palette, or CMYK"
        raise PictureError(f"colour mode {image.mode} is not supported; wanted {wanted}")
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
        for name in _KEPT:
            if ExifTags.Base[name] in old:
                exif[ExifTags.Base[name]] = old[ExifTags.Base[name]]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            kept = {tag: value for tag, value in old.get_ifd(ifd).items() if tag not in _PIXEL_SIZES_AND_MAKER_NOTE}
            if kept:
                exif[ifd] = kept
        content = exif.tobytes() if len(exif) else None
    except (SyntaxError, ValueError, TypeError, KeyError, OSError, AttributeError, OverflowError, struct.error):
        return None, 1, ("dropped its EXIF data, which is damaged",)
    return content, orientation if isinstance(orientation, int) else 1, ()


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    """Return the resolution from Pillow's info, else from the EXIF data, where WebP stores it."""
    try:
        exif = image.getexif() if image.format == "WEBP" else {}
        unit = 2.54 if exif.get(_RESOLUTION_UNIT) == _CENTIMETRE else 1
        in_exif = [float(exif[tag]) * unit for tag in (_X_RESOLUTION, _Y_RESOLUTION) if tag in exif]
        across, down = (float(value) for value in image.info.get("dpi", in_exif))
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError, KeyError, struct.error):
        return None
    if not (0 < across < 1e6 and 0 < down < 1e6):
        return None
    return (down, across) if _TURNS.get(orientation, (False,))[0] else (across, down)
