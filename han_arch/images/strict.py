"""Strict image files of data sets and measurements: whole 8-bit grey or RGB images; anything else is an error."""

import io
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

PNG_LEVEL = 1  # as in BasicSR's LMDB writer; photos are 1 % larger than at level 3, in three quarters of the time
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class ImageError(ValueError):
    """Bytes that the data commands do not accept; the message gives the reason without a file name."""


@dataclass(frozen=True)
class PngHeader:
    """A PNG file's sides in pixels, channels, and bits of a sample."""

    height: int
    width: int
    channels: int
    depth: int


def png_header(data: bytes) -> PngHeader:
    """Read sides, channels and depth from the first 26 bytes of a PNG file; ImageError for other files."""
    if len(data) < 26 or not data.startswith(PNG_SIGNATURE) or data[25] not in PNG_CHANNELS:
        raise ImageError("not a PNG file")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return PngHeader(height, width, PNG_CHANNELS[data[25]], data[24])


def decode_image(data: bytes) -> np.ndarray:
    """Decode a whole image file.

    Args:
        data: the file's bytes (PNG, JPEG, BMP, TIFF, ... as Pillow reads them).

    Returns:
        uint8: (h, w) grey, (h, w, 3) RGB, or (h, w, 2 or 4) with alpha last.

    Raises:
        ImageError: an empty, truncated or damaged file, no image, or more than 8 bits a sample.
    """
    if not data:
        raise ImageError("empty file")
    # Pillow would silently reduce 16-bit colour to 8 bits.
    if data.startswith(PNG_SIGNATURE) and png_header(data).depth == 16:
        raise ImageError("16 bits a sample; wanted 8")
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith(("I", "F")):
                raise ImageError("16 or more bits a sample; wanted 8")
            image.load()
            return np.asarray(_plain(image))
    except UnidentifiedImageError:
        raise ImageError("not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"damaged: {error}") from error


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB", "LA", "RGBA"):
        return image
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "P":
        return image.convert("RGB")
    raise ImageError(f"colour mode {image.mode}; wanted grey or RGB")


def read_image(path: Path) -> np.ndarray:
    """Read a file as `decode_image` does; the ImageError names the file."""
    try:
        return decode_image(path.read_bytes())
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 image, (h, w) grey or (h, w, 3) RGB, as PNG."""
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, buffer = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not done:
        raise RuntimeError(f"OpenCV could not write an image of shape {image.shape} as PNG")
    return buffer.tobytes()


def list_files(folder: Path) -> list[Path]:
    """List a folder's files by name, without hidden ones (leading dot), as BasicSR does."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
