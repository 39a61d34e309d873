"""Keep the metadata of an image file: EXIF, XMP, texts, comments and colour chunks. A note names what is dropped."""

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from xml.parsers import expat

from PIL import Image

from han_arch.images.exif import EXIF_IFD, GPS_IFD, read_tags, reduced
from han_arch.images.picture import Extra, Picture
from han_arch.images.png16 import XMP_KEY, png_chunks

_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"
# PNG chunks that stay true for the upscaled image.
_COLOUR_CHUNKS = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
# PNG chunks with pixels, chunks that become alpha, ICC profile, EXIF and DPI, and chunks about the source file only.
_OTHER_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"tIME", b"iDOT", b"acTL", b"fcTL", b"fdAT")
)
_UTF_16 = {b"<\0": "utf-16-le", b"\xff\xfe": "utf-16-le", b"\0<": "utf-16-be", b"\xfe\xff": "utf-16-be"}
_ICC_SEGMENT, _ICC_BYTES = b"ICC_PROFILE\0", 255 * 65_519
_KNOWN_SEGMENTS = ("APP0", "APP1", "APP2", "APP14")  # JFIF, EXIF and XMP, ICC profile, and Adobe's colour transform
_NAMED = 8  # largest number of names in a note
# Largest number of bytes in a file of this format. Our own tags need up to 2,000 bytes of EXIF.
_EXIF_LIMIT, _XMP_LIMIT, _ICC_LIMIT = {"jpeg": 63_500}, {"jpeg": 65_504}, {"jpeg": _ICC_BYTES}
_CLASSIC_TIFF = 4_000_000_000  # bytes of pixels that a TIFF file with 32-bit offsets can store


def forget_damaged_tags(image: Image.Image) -> None:
    """Remove damaged EXIF directories and XMP from a TIFF file that Pillow opened; otherwise, it cannot be loaded."""
    if image.format != "TIFF":
        return
    if not isinstance(image.info.get("xmp", b""), bytes):
        image.info["xmp"] = b"?"  # `with_metadata` finds this damaged
    exif = image.getexif()
    for tag in (EXIF_IFD, GPS_IFD):
        if tag in exif:
            try:
                exif.get_ifd(tag)
            except Exception:  # Pillow raises many types of errors for damaged tags
                del exif[tag]


def with_metadata(picture: Picture, image: Image.Image | None, data: bytes) -> Picture:
    """Add the metadata of a file to a picture, and a note about metadata that are dropped.

    data contains the bytes of the file. image is the file, loaded by Pillow; None for a TIFF file that Pillow cannot
    read.
    """
    dropped: list[str] = []
    info = {} if image is None else image.info
    is_tiff = image is None or image.format == "TIFF"
    exif = None
    if source := data if is_tiff else _exif_bytes(info):
        try:
            tags = read_tags(source)
        except ValueError:
            dropped.append("EXIF (damaged)")
        else:
            dropped += [f"EXIF {name} (damaged)" for name in tags.damaged] + [
                f"EXIF {name}" for name in tags.source_only
            ]
            exif = tags if tags.entries else None
    xmp = None
    if (found_xmp := picture.xmp or info.get("xmp")) and (xmp := _plain_xmp(found_xmp)) is None:
        dropped.append("XMP (damaged)")
    found = [] if image is None else list(_extras(image, data))
    dropped += [extra.name for extra in found if not extra.format]
    if image is not None and _lost_profile(image):
        dropped.append("ICC profile (damaged)")
    notes = picture.notes + (_note(dropped, "which are damaged or hold only for the source file"),) * bool(dropped)
    return replace(picture, exif=exif, xmp=xmp, extras=tuple(extra for extra in found if extra.format), notes=notes)


def fitted(picture: Picture, name: str, pixel_bytes: int) -> Picture:
    """Drop the metadata that a format cannot store, and add a note for them.

    `name` is the name of the format, such as "jpeg". pixel_bytes is the size of the upscaled pixels in bytes.
    """
    dropped = [extra.name for extra in picture.extras if extra.format != name]
    exif, xmp, icc = picture.exif, picture.xmp, picture.icc
    if name == "tiff" and pixel_bytes > _CLASSIC_TIFF:
        dropped += ["EXIF"] * bool(exif) + ["XMP"] * bool(xmp)
        exif = xmp = None
    if exif and name in _EXIF_LIMIT:
        exif, names = reduced(exif, _EXIF_LIMIT[name])
        dropped += [f"EXIF {name}" for name in names]
    if xmp and len(xmp) > _XMP_LIMIT.get(name, len(xmp)):
        dropped.append("XMP")
        xmp = None
    if icc and len(icc) > _ICC_LIMIT.get(name, len(icc)):
        dropped.append("ICC profile")
        icc = None
    notes = picture.notes + (_note(dropped, f"which {name} cannot store"),) * bool(dropped)
    extras = tuple(extra for extra in picture.extras if extra.format == name)
    return replace(picture, exif=exif, xmp=xmp, icc=icc, extras=extras, notes=notes)


def _note(names: Iterable[str], reason: str) -> str:
    """Return the note which says that metadata with these names were dropped."""
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
    return f"dropped metadata: {', '.join(unique[:_NAMED])}{more}, {reason}"


def _exif_bytes(info: dict) -> bytes | None:
    """Return a file's EXIF data. ImageMagick writes them into PNG files as a text of hexadecimal digits."""
    exif, text = info.get("exif"), info.get("Raw profile type exif")
    if exif is None and isinstance(text, str):
        try:
            return bytes.fromhex("".join(text.split("\n")[3:])) or b"?"
        except ValueError:
            return b"?"  # `read_tags` refuses it
    return exif if isinstance(exif, bytes) else None


def _plain_xmp(xmp: object) -> bytes | None:
    """Return XMP data in UTF-8, with the orientation of upright pixels. Return None if they are damaged."""

    def refuse(*_: object) -> None:
        raise ValueError("XMP must not define XML entities")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    if not isinstance(xmp, bytes):
        return None
    try:
        if encoding := _UTF_16.get(xmp[:2]):
            xmp = re.sub("^\ufeff?(<[?]xml[^>]*?) encoding=[\"'][^\"']*[\"']", r"\1", xmp.decode(encoding)).encode()
        xmp = xmp.rstrip(b"\0")
        parser.Parse(xmp, True)
    except (expat.ExpatError, ValueError, LookupError):
        return None
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def _lost_profile(image: Image.Image) -> bool:
    """Return whether the file has an ICC profile that Pillow could not read."""
    if image.info.get("icc_profile"):
        return False
    segments = getattr(image, "applist", [])
    return "icc_profile" in image.info or any(content.startswith(_ICC_SEGMENT) for _, content in segments)


def _extras(image: Image.Image, data: bytes) -> Iterator[Extra]:
    """Yield metadata that only the same format can store. Without a format, they hold only for the source file."""
    if image.format == "PNG":
        yield from _png_extras(image, data)
    elif image.format in ("JPEG", "MPO"):
        yield from _jpeg_extras(image)
    elif image.format == "BMP" and len(data) > 122 and struct.unpack_from("<I", data, 14)[0] >= 108:
        if data[70:74] in (b"DEBM", b"KNIL"):
            yield Extra("", "ICC profile", b"")
        elif data[70:74] == bytes(4) and any(data[110:122]):
            yield Extra("", "gamma and primaries", b"")


def _png_extras(image: Image.Image, data: bytes) -> Iterator[Extra]:
    seen = set()
    for chunk, start, end in png_chunks(data):
        name = chunk.decode("latin-1")
        if chunk in _TEXT_CHUNKS:
            content = data[start:end]
            key = content.split(b"\0", 1)[0]
            if key in (XMP_KEY, b"Software"):
                continue
            text = f"{name} {key.decode('latin-1')}"
            profile = key.startswith(b"Raw profile type")
            if not profile:
                yield Extra("png", text, chunk + content)
            elif key[17:] != b"exif":
                yield Extra("", text, b"")
        elif chunk in _COLOUR_CHUNKS and chunk not in seen:
            yield Extra("png", name, chunk + data[start:end])
        elif chunk not in _OTHER_CHUNKS and chunk not in seen and not (chunk == b"pHYs" and "dpi" in image.info):
            yield Extra("", name, b"")
        seen.add(chunk)


def _jpeg_extras(image: Image.Image) -> Iterator[Extra]:
    if (pictures := getattr(image, "n_frames", 1)) > 1:
        yield Extra("", f"{pictures - 1} more picture{'s' * (pictures > 2)}", b"")
    for name, content in getattr(image, "applist", []):
        if name == "COM":
            yield Extra("jpeg", "comment", _segment(0xFE, content))
        elif name == "APP13":
            iptc = image.info.get("photoshop", {}).get(0x0404)
            if isinstance(iptc, bytes) and iptc:
                block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + bytes(len(iptc) % 2)
                yield Extra("jpeg", "IPTC", _segment(0xED, b"Photoshop 3.0\0" + block))
            else:
                yield Extra("", name, b"")
        elif name == "APP1" and not content.startswith((b"Exif\0", _XMP_SEGMENT)):
            yield Extra("", "extended XMP" if b"/xmp/extension/" in content[:40] else name, b"")
        elif (name == "APP2" and not content.startswith((_ICC_SEGMENT, b"MPF\0"))) or name not in _KNOWN_SEGMENTS:
            yield Extra("", name, b"")


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
