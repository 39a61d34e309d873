"""A picture: its samples, and what a file says about them; from Pillow's images and back."""

import io
import struct
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageCms

_SAMPLES = ("L", "LA", "RGB", "RGBA")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_SPACES = {1: "GRAY", 2: "GRAY", 3: "RGB ", 4: "RGB "}
# Samples that other modes become: bilevel, palettes and premultiplied alpha.
_PLAIN = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
# What an EXIF orientation 1 to 8 asks for: transpose first?, then flip rows?, flip columns?
_TURNS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
# Kept of the photo's own data; the rest describes the file that was read: its size, thumbnail, strips.
_KEPT = ("ImageDescription", "Make", "Model", "DateTime", "Artist", "Copyright")
_PIXEL_SIZES_AND_MAKER_NOTE = (0xA002, 0xA003, 0x927C)  # a maker's note has offsets into the old file
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _CENTIMETRE = 282, 283, 296, 3


class PictureError(ValueError):
    """A file that is not read or written; the message says why, without its name."""


def too_large(width: int, height: int, max_pixels: int) -> PictureError:
    """The error for a picture of more pixels than are taken."""
    return PictureError(f"{width}x{height} are more than {max_pixels:,} pixels; a larger --max-pixels takes it")


@dataclass(frozen=True)
class Picture:
    """Samples and what belongs to them.

    Attributes:
        pixels: (h, w, 1 to 4), grey, grey and alpha, RGB, RGB and alpha; upright; uint8, uint16 or float32 in [0, 1].
        icc: the colour profile of the samples.
        dpi: pixels an inch, across and down.
        exif: the photo's data, without orientation and thumbnail, as Pillow writes it.
        notes: what was done to get here, for the user.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes | None = None
    notes: tuple[str, ...] = field(default=())


def from_pillow(image: Image.Image, samples: np.ndarray | None = None) -> Picture:
    """The picture of a Pillow image, in one of the four forms of samples, upright.

    Args:
        image: not changed, but loaded.
        samples: (h, w, 1 to 4), the image's own, where Pillow would bring them down to 8 bits.

    Raises:
        PictureError: its mode is none that is taken.
    """
    exif, orientation, notes = _exif(image)
    icc = image.info.get("icc_profile") or None
    if samples is None:
        samples, icc, note = _samples(image, icc)
        notes += note
    icc, note = checked_profile(icc, samples.shape[2])
    return Picture(upright(samples, orientation), icc, _dpi(image, orientation), exif, notes + note)


def to_pillow(picture: Picture) -> Image.Image:
    """A Pillow image of uint8 or, grey only, uint16 samples, with ICC profile and DPI in its info.

    Raises:
        PictureError: it has samples that Pillow has no mode for.
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
    """(h, w, c) turned as an EXIF orientation asks for; a view."""
    if orientation in _TURNS:
        transposed, rows, columns = _TURNS[orientation]
        samples = samples.transpose(1, 0, 2) if transposed else samples
        samples = samples[:: -1 if rows else 1, :: -1 if columns else 1]
    return samples


def _samples(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Samples (h, w, c), their profile, and notes."""
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
        raise PictureError(
            f"colour mode {image.mode}; wanted 8 or 16 bit grey or RGB, with or without alpha, a palette, or CMYK"
        )
    plain = image if image.mode == mode else image.convert(mode)
    samples = np.asarray(plain)
    note = () if image.mode in _SAMPLES else (f"{_in_words(image.mode)} became {mode}",)
    return (samples if samples.ndim == 3 else samples[..., None]), icc, note


def _in_words(mode: str) -> str:
    return {"1": "black and white", "P": "palette", "PA": "palette"}.get(mode, mode)


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """By its profile to sRGB, else by Pillow's plain formula."""
    if icc:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            rgb = cast(Image.Image, ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB"))
            return np.asarray(rgb), srgb.tobytes(), ("CMYK became sRGB by its profile",)
        except (ImageCms.PyCMSError, OSError):
            return np.asarray(image.convert("RGB")), None, ("CMYK became RGB without its profile, which is damaged",)
    return np.asarray(image.convert("RGB")), None, ("CMYK without a profile became RGB by the plain formula",)


def checked_profile(icc: bytes | None, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The profile if it is one for samples of so many channels, else None and a note."""
    if icc is None:
        return None, ()
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError):
        return None, ("its ICC profile is damaged and was left out",)
    if space != _SPACES[channels]:
        return None, (f"its ICC profile is for {space.strip()} and was left out",)
    return icc, ()


def _exif(image: Image.Image) -> tuple[bytes | None, int, tuple[str, ...]]:
    """What is kept of the EXIF data, the orientation, and notes."""
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
        return None, 1, ("its EXIF data is damaged and was left out",)
    return content, orientation if isinstance(orientation, int) else 1, ()


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    """From Pillow's info, else from the EXIF data, which is where WebP has it."""
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
