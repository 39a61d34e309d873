"""What an image file's header says before the file is decoded: its shape, and the memory that decoding takes."""

from dataclasses import dataclass

from PIL import ExifTags, Image

# Bytes per pixel. All numbers were measured with 12-megapixel files and Pillow 13, OpenCV 5 and tifffile 2026.3.
_WEBP_CANVAS = 12  # WebP's decoder and Pillow's copies; measured: 8 lossy, 11 lossless
_SLACK = 0.5
_TILE_BYTES = 8  # up to four channels of two bytes
_ONE_BYTE, _ALPHA = ("1", "L", "P"), ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True)
class Header:
    """The shape and the cost of an image file that is not decoded yet.

    Attributes:
        shape: (h, w, channels) of the decoded image, before its EXIF orientation is applied.
        itemsize: number of bytes per decoded pixel value, 1 or 2.
        reading: largest memory in bytes while the file is decoded. The bytes of the file are not counted.
    """

    shape: tuple[int, int, int]
    itemsize: int
    reading: int


def header_of(image: Image.Image) -> Header:
    """Return the header of an image that Pillow has opened, but not decoded."""
    mode, pixels = image.mode, image.height * image.width
    transparent = "transparency" in image.info
    grey = mode in ("1", "L", "LA", "La") or mode.startswith("I")
    tile_width, tile_height = tile_size(image)
    tile_bytes = _TILE_BYTES * tile_width * tile_height
    channels = (1 if grey else 3) + (mode in _ALPHA or transparent)
    loaded = 1 if mode in _ONE_BYTE else 2 if mode.startswith("I;16") else 4
    if any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        # OpenCV decodes grey with alpha to four channels, and needs two copies. TIFF strips can be as large as all.
        samples = 2 * (4 if channels == 2 else channels)
        a_pixel = loaded + 2 * samples + samples * (image.format == "TIFF")
        return Header((image.height, image.width, channels), 2, int((a_pixel + _SLACK) * pixels) + tile_bytes)
    converted = 0 if mode in ("L", "LA", "RGB", "RGBA") and not transparent else 1 if channels == 1 else 4
    a_pixel = loaded + converted + 2 * channels + _WEBP_CANVAS * (image.format == "WEBP")
    return Header((image.height, image.width, channels), 1, int((a_pixel + _SLACK) * pixels) + tile_bytes)


def tile_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of a TIFF file's tiles, because a tile can be much larger than the image; else (0, 0)."""
    tags = getattr(image, "tag_v2", {})
    width, height = (tags.get(tag) for tag in (ExifTags.Base.TileWidth, ExifTags.Base.TileLength))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
