"""Images in memory: the class `Picture`, and functions that convert between pictures and Pillow images."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from han_arch.errors import UserError
from han_arch.images.exif import Tags

_SAMPLES = ("L", "LA", "RGB", "RGBA")
_SPACES = {1: "GRAY", 2: "GRAY", 3: "RGB ", 4: "RGB "}
# Pillow mode of an image -> mode that it is converted to: bilevel, palettes, premultiplied alpha and others.
_PLAIN = {"1": "L", "La": "LA", "RGBa": "RGBA", "PA": "RGBA", "P": "RGB", "RGBX": "RGB", "YCbCr": "RGB"}
# Names of Pillow modes in messages to the user.
_WORDS = {"1": "black and white", "P": "palette", "PA": "palette", "L": "grey", "LA": "grey with alpha"}
_TRANSPOSED, _ROWS_FLIPPED, _COLUMNS_FLIPPED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)  # EXIF orientations
# The exceptions that Pillow raises for damaged files and metadata.
_FAULTS = (
    *(OSError, SyntaxError, ValueError, TypeError, AttributeError, EOFError, LookupError, ArithmeticError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


class ImageError(ValueError):
    """Error for an image that cannot be read or written. The message gives the reason. Callers add the file name."""


class NotForPillow(ImageError):
    """Error for a file that Pillow cannot read. `ImageFormat.read_other` may be able to read it."""


def too_large(width: int, height: int, max_pixels: int) -> ImageError:
    """Return an ImageError which says that a picture has more than max_pixels pixels."""
    return ImageError(f"the image has {width}x{height} pixels; the limit is {max_pixels:,}; pass a larger --max-pixels")


@contextlib.contextmanager
def damage_reported(faults: tuple[type[Exception], ...] = _FAULTS) -> Iterator[None]:
    """Convert exceptions inside a `with` block to ImageError. `faults` are the exceptions that damaged files cause."""
    try:
        yield
    except (ImageError, UserError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image") from None
    except faults as error:
        if "PngImagePlugin.MAX_TEXT" in str(error) or "MAX_TEXT_MEMORY" in str(error):
            raise ImageError("the texts or the ICC profile of the PNG file are too long; remove them") from error
        raise ImageError(f"damaged or incomplete file: {error}") from error


@dataclass(frozen=True)
class Extra:
    """Metadata that only one format can store: the format's name such as "png", the metadata's name, and the bytes.

    The bytes are a PNG chunk with its type or a complete JPEG segment.
    """

    format: str
    name: str
    content: bytes


@dataclass(frozen=True)
class Picture:
    """An image's pixel values and metadata.

    Attributes:
        pixels: pixel values, (h, w, 1 to 4). The channels are grey, grey and alpha, RGB, or RGB and alpha. The dtype is
            uint8, uint16, or float32 in [0, 1].
        icc: ICC profile of the pixel values; None if there is none.
        dpi: horizontal and vertical resolution in pixels per inch; None if unknown.
        exif: EXIF tags without orientation and thumbnail; None if there are none.
        xmp: XMP data; None if there are none.
        extras: metadata that only the image's own format can store.
        notes: texts that tell the user how the image was converted.
    """

    pixels: np.ndarray
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: Tags | None = None
    xmp: bytes | None = None
    extras: tuple[Extra, ...] = ()
    notes: tuple[str, ...] = ()

    def normalised(self, orientation: int) -> "Picture":
        """Turn the pixels upright; drop the ICC profile if it is damaged or has another colour space than the pixels.

        `orientation` is the EXIF orientation, 1 to 8. Pixels are not copied. A note says why a profile is dropped.
        """
        pixels, icc, notes = self.pixels, self.icc, self.notes
        pixels = upright(pixels, orientation)
        if icc is not None and (fault := _profile_fault(icc, pixels.shape[2])):
            icc, notes = None, (*notes, f"dropped the image's ICC profile, because {fault}")
        return replace(self, pixels=pixels, icc=icc, notes=notes)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a view of the pixels, (h, w) or (h, w, c), turned upright. EXIF orientations are 1 to 8."""
    if orientation in _TRANSPOSED:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if orientation in _ROWS_FLIPPED else 1, :: -1 if orientation in _COLUMNS_FLIPPED else 1]


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, that is not yet applied to a loaded image; 1 if it is unreadable."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _FAULTS:
        return 1
    return orientation if isinstance(orientation, int) else 1


def from_pillow(image: Image.Image, samples: np.ndarray | None = None) -> Picture:
    """Convert a Pillow image to a picture, and apply its EXIF orientation. The image is loaded, but not changed.

    samples contains the image's 16-bit pixel values, (h, w, 1 to 4). None: use the pixel values of the Pillow image.

    Raises:
        ImageError: the image has an unsupported colour mode.
    """
    notes: tuple[str, ...] = ()
    icc = image.info.get("icc_profile") or None
    if samples is None:
        samples, icc, notes = _samples(image, icc)
    orientation = orientation_of(image)
    return Picture(samples, icc, _dpi(image, orientation), notes=notes).normalised(orientation)


def to_pillow(picture: Picture) -> Image.Image:
    """Convert a picture of uint8 or grey uint16 values to a Pillow image, with ICC profile and DPI.

    Raises:
        ImageError: Pillow has no mode for the picture's dtype and number of channels.
    """
    pixels = picture.pixels
    if pixels.dtype != np.uint8 and not (pixels.dtype == np.uint16 and pixels.shape[2] == 1):
        raise ImageError(f"a Pillow image cannot have {pixels.shape[2]} channels of {pixels.dtype}")
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.dpi:
        image.info["dpi"] = picture.dpi
    return image


def opencv_samples(image: Image.Image, data: bytes) -> np.ndarray:
    """Decode a 16-bit image file with OpenCV. Return its pixel values as uint16, (h, w, c) with c = 1, 3 or 4.

    data contains the bytes of the file. image is the same file, opened by Pillow.

    Raises:
        ImageError: OpenCV cannot decode the pixel values.
    """
    image.load()  # raises an exception if the file is truncated; OpenCV would not report that
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None or samples.dtype != np.uint16 or samples.shape[:2] != (image.height, image.width):
        raise ImageError("OpenCV cannot decode the file's 16-bit pixel values")
    if samples.ndim == 2:
        return samples[..., None]
    return cv2.cvtColor(samples, cv2.COLOR_BGR2RGB if samples.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, samples)


def with_alpha(pixels: np.ndarray, transparent: int | tuple[int, ...] | None) -> np.ndarray:
    """Add an alpha channel to pixels, (h, w, c): 0 where they have the transparent colour, else the largest value.

    If there is no transparent colour, the pixels are returned as they are.
    """
    if transparent is None:
        return pixels
    opaque = (pixels != np.asarray(transparent)).any(axis=-1, keepdims=True)
    return np.concatenate([pixels, opaque * np.array(np.iinfo(pixels.dtype).max, pixels.dtype)], axis=-1)


def _samples(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Return (pixel values, their ICC profile, notes for the user). The pixel values are (h, w, c)."""
    # Pillow scales grey values of 2 and 4 bits to 8 bits, but not the value of the transparent colour.
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    scaled = {"L;2": 85, "L;4": 17}.get(tiles[0].args, 1) if tiles else 1
    image.load()
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16, copy=False)[..., None]
        return with_alpha(grey, image.info.get("transparency")), icc, ()
    if image.mode == "CMYK":
        return _from_cmyk(image, icc)
    mode = _PLAIN.get(image.mode, image.mode)
    if "transparency" in image.info and image.mode in ("1", "L", "RGB", "P"):
        mode = "LA" if image.mode in ("1", "L") else "RGBA"
    if mode not in _SAMPLES:
        raise ImageError(f"colour mode {image.mode} is not supported; convert the image to grey or RGB")
    if mode == "LA" and image.mode == "L":
        samples = with_alpha(np.asarray(image)[..., None], scaled * image.info["transparency"])
    else:
        samples = np.asarray(image if image.mode == mode else image.convert(mode))
    before, after = (_WORDS.get(name, name) for name in (image.mode, mode))
    note = () if image.mode in _SAMPLES else (f"converted {before} to {after}",)
    return (samples if samples.ndim == 3 else samples[..., None]), icc, note


def _from_cmyk(image: Image.Image, icc: bytes | None) -> tuple[np.ndarray, bytes | None, tuple[str, ...]]:
    """Convert a CMYK image to sRGB with its ICC profile. Without a usable profile, convert it by Pillow's formula."""
    note = "converted CMYK without ICC profile to RGB by a simple formula"
    if icc:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            rgb = cast(Image.Image, ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB"))
            return np.asarray(rgb), srgb.tobytes(), ("converted CMYK to sRGB by the image's ICC profile",)
        except (ImageCms.PyCMSError, OSError, TypeError):
            note = "converted CMYK to RGB by a simple formula, because the image's ICC profile is damaged"
    return np.asarray(image.convert("RGB")), None, (note,)


def _profile_fault(icc: bytes, channels: int) -> str | None:
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.xcolor_space
    except (ImageCms.PyCMSError, OSError, TypeError):  # TypeError: a TIFF tag of a wrong type
        return "it is damaged"
    return None if space == _SPACES[channels] else f"its colour space is {space.strip()}"


def _dpi(image: Image.Image, orientation: int) -> tuple[float, float] | None:
    """Return the horizontal and vertical resolution of the upright image in pixels per inch; None if unknown."""
    try:
        exif = image.getexif() if image.format == "WEBP" else {}
        unit = 2.54 if exif.get(ExifTags.Base.ResolutionUnit) == 3 else 1  # 3 means pixels per centimetre
        tags = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
        in_exif = [float(exif[tag]) * unit for tag in tags if tag in exif]
        across, down = (float(value) for value in image.info.get("dpi", in_exif))
    except _FAULTS:
        return None
    if not (0 < across < 1e6 and 0 < down < 1e6):
        return None
    return (down, across) if orientation in _TRANSPOSED else (across, down)


def most_detailed_window(image: np.ndarray, size: int) -> tuple[int, int]:
    """Find the square window with the most detail; return its top row and left column.

    Detail is the sum of the absolute differences between neighbouring pixels. image is (h, w, channels), with any dtype
    and range. size is the side of the window in pixels, at most min(h, w).
    """
    grey = image.astype(np.float64).mean(axis=-1)
    detail = np.zeros_like(grey)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    return largest_window(detail, size, size)


def largest_window(values: np.ndarray, height: int, width: int) -> tuple[int, int]:
    """Find the window of `values`, (h, w), with the largest sum; return its top row and left column.

    The window has `height` rows and `width` columns. If several windows have the same sum, the first one is returned.
    """
    total = np.pad(values.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left)
