"""Read and write EXIF tags as raw bytes. A tag that is damaged is dropped alone, with its name; all others stay.

Pillow decodes the values of all tags at once: one damaged tag loses all, and text outside ASCII becomes "?".
"""

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image

EXIF_IFD, GPS_IFD, INTEROP_IFD = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop
_NAMES: dict[int, Any] = {GPS_IFD: ExifTags.GPS, INTEROP_IFD: ExifTags.Interop}
_POINTERS: dict[int, tuple[int, ...]] = {0: (EXIF_IFD, GPS_IFD), EXIF_IFD: (INTEROP_IFD,)}
_PARENTS: dict[int, tuple[int, ...]] = {  # directory -> its tag and those of the directories around it
    GPS_IFD: (GPS_IFD,),
    EXIF_IFD: (EXIF_IFD,),
    INTEROP_IFD: (INTEROP_IFD, EXIF_IFD),
}
# TIFF type -> (bytes of one value, bytes of its numbers, which have a byte order)
_TYPES = {
    **{1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4)},
    **{10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8), 18: (8, 8)},
}
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED = 2, 3, 4, 5, 7
_ORIENTATION = 274
_STRAY = 3  # with more damaged tags than sound ones and these, the position of a directory is wrong
_POINTER_TYPES = (4, 13, 16, 18)  # the last two exist only in TIFF files above 4 GB
# Tags that describe how the source file stores its pixels. A new file gets its own: sizes, strips, orientation,
# resolution, Software, XMP, ICC profile and others.
_STORAGE = {
    *range(254, 269), *range(273, 285), *range(288, 294), 296, 305, 317, *range(320, 326), 332, 333, 334, 336,
    *range(338, 348), *range(512, 522), *range(529, 533), 700, 34675, 0xA002, 0xA003, 0x1001, 0x1002,
}  # fmt: skip
# Tags that would be wrong for the upscaled image: they have offsets, tables or pixel positions of the source file.
_SOURCE_ONLY = {
    **{301: "TransferFunction", 330: "SubIFDs", 33421: "CFARepeatPatternDim", 33422: "CFAPattern", 33550: "GeoTIFF"},
    **{33723: "IPTC", 33922: "GeoTIFF", 34264: "GeoTIFF", 34377: "Photoshop", 34735: "GeoTIFF", 34736: "GeoTIFF"},
    **{34737: "GeoTIFF", 37724: "Photoshop layers", 0x927C: "MakerNote"},
    **dict.fromkeys(range(50706, 51200), "DNG"),
}


@dataclass
class Tags:
    """The tags of a directory: tag -> (type, bytes), or the tags of a directory within. Numbers are little-endian.

    `damaged` and `source_only` are names of tags that were dropped.
    """

    entries: "dict[int, tuple[int, bytes] | Tags]" = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    source_only: list[str] = field(default_factory=list)

    def with_text(self, tag: int, text: str) -> "Tags":
        """Return a copy with one more text. Characters outside ASCII become "?"."""
        return Tags({**self.entries, tag: (_ASCII, text.encode("ascii", "replace") + b"\0")})

    def with_dpi(self, across: float, down: float) -> "Tags":
        """Return a copy with the resolution in pixels per inch."""
        values = [(_RATIONAL, struct.pack("<II", round(value * 1000), 1000)) for value in (across, down)]
        return Tags({**self.entries, 282: values[0], 283: values[1], 296: (_SHORT, b"\2\0")})


def read_tags(data: bytes) -> Tags:
    """Read the EXIF tags to keep from the bytes of EXIF data or of a TIFF file.

    Raises:
        ValueError: data has no complete header of EXIF data.
    """
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    big = data[2:4] in (b"+\0", b"\0+")
    if order is None or len(data) < (16 if big else 8):
        raise ValueError("EXIF data must begin with II or MM and a complete header")
    reader = _Reader(data, order, big)
    return reader.directory(reader.number("Q" if big else "I", 8 if big else 4), 0)


class _Reader:
    def __init__(self, data: bytes, order: str, big: bool) -> None:
        self.data, self.order, self.big = data, order, big
        self.left = len(data)  # overlapping tags must not take more memory than the data

    def number(self, code: str, position: int) -> int:
        return int(struct.unpack_from(self.order + code, self.data, position)[0])

    def directory(self, start: int, group: int) -> Tags:
        tags, big = Tags(), self.big
        whole = tag_name(group) if group else "the end of the tags"
        count_bytes, step, code = (8, 20, "HHQ") if big else (2, 12, "HHI")
        try:
            count = self.number("Q" if big else "H", start)
        except (struct.error, OverflowError):
            tags.damaged.append(whole)
            return tags
        seen = set()  # a directory has each tag once; otherwise, many pointers to one place would never end
        for index in range(count):
            position = start + count_bytes + step * index
            if position + step > len(self.data):
                tags.damaged.append(whole)
                break
            tag, kind, number = struct.unpack_from(self.order + code, self.data, position)
            if tag in seen:
                continue
            seen.add(tag)
            name = tag_name(tag, group)
            if tag == _ORIENTATION and group == 0 and not self.sound_orientation(kind, position + step):
                tags.damaged.append(name)
            if tag in _STORAGE:
                continue
            if tag in _SOURCE_ONLY:
                tags.source_only.append(_SOURCE_ONLY[tag])
            elif (value := self.value(kind, number, position + step - (8 if big else 4))) is None:
                tags.damaged.append(name)
            elif tag in _POINTERS.get(group, ()):
                within = self.directory(int.from_bytes(value, "little"), tag) if kind in _POINTER_TYPES else None
                if within is None or len(within.damaged) > _STRAY + len(within.entries) + len(within.source_only):
                    tags.damaged.append(name)
                    continue
                tags.damaged += within.damaged
                tags.source_only += within.source_only
                if within.entries:
                    tags.entries[tag] = within
            elif kind < 16 and _writable(tag, group, (kind, value)):
                tags.entries[tag] = kind, value
            else:
                tags.damaged.append(name)
        return tags

    def sound_orientation(self, kind: int, end: int) -> bool:
        code = {_SHORT: "H", _LONG: "I"}.get(kind)  # Pillow also applies an orientation of type long
        return code is not None and 1 <= self.number(code, end - (8 if self.big else 4)) <= 8

    def value(self, kind: int, count: int, position: int) -> bytes | None:
        """Return the value of a tag as little-endian bytes; None if it is damaged."""
        unit, width = _TYPES.get(kind, (0, 0))
        size = unit * count
        if size > (8 if self.big else 4):
            position = self.number("Q" if self.big else "I", position)
        raw = self.data[position : position + size]
        if not size or len(raw) != size or size > self.left:
            return None
        self.left -= size
        if kind == _UNDEFINED and raw.startswith(b"UNICODE\0") and size % 2 == 0:  # a comment in UTF-16
            return raw[:8] + _little_endian(raw[8:], 2, self.order)
        return _little_endian(raw, width, self.order)


def _little_endian(raw: bytes, width: int, order: str) -> bytes:
    return raw if width == 1 or order == "<" else np.frombuffer(raw, f">u{width}").astype(f"<u{width}").tobytes()


def _writable(tag: int, group: int, entry: tuple[int, bytes]) -> bool:
    """Return whether Pillow can read and write a tag. If it cannot, other programs may fail too."""
    tags = Tags({tag: entry})
    for parent in _PARENTS.get(group, ()):
        tags = Tags({parent: tags})
    exif = Image.Exif()
    try:
        exif.load(packed(tags))
        exif.tobytes()
        return True
    except Exception:  # Pillow raises many types of errors for values of a wrong type
        return False


def tag_name(tag: int, group: int = 0) -> str:
    """Return the name of an EXIF tag, such as "GPSAltitude". `group` is the tag of its directory; 0 for the first."""
    try:
        return str(_NAMES.get(group, ExifTags.Base)(tag).name)
    except ValueError:
        return f"0x{tag:04X}"


def packed(tags: Tags) -> bytes:
    """Return EXIF data with a header, as JPEG, PNG and WebP files store it."""
    return b"Exif\0\0II*\0\x08\0\0\0" + directory_bytes(tags, 8)


def directory_bytes(tags: Tags, offset: int, order: str = "<", others: dict[int, bytes] | None = None) -> bytes:
    """Return a directory and the values of its tags as bytes, for the position `offset` in a file.

    `order` is "<" for little-endian and ">" for big-endian. `others` are tags that the file has already: tag -> the 12
    bytes of its entry. They replace tags with the same number.
    """
    entries = {**tags.entries, **(others or {})}
    head, tail = bytearray(struct.pack(f"{order}H", len(entries))), bytearray()
    free = offset + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        entry = entries[tag]
        if isinstance(entry, bytes):
            head += entry
            continue
        if isinstance(entry, Tags):
            kind, count, raw = _LONG, 1, directory_bytes(entry, free + len(tail), order)
            fits = False
        else:
            kind, raw = entry
            unit, width = _TYPES[kind]
            count, fits = len(raw) // unit, len(raw) <= 4
            if order == ">":
                raw = _little_endian(raw, width, ">")
        value = raw.ljust(4, b"\0") if fits else struct.pack(f"{order}I", free + len(tail))
        head += struct.pack(f"{order}HHI", tag, kind, count) + value
        if not fits:
            tail += raw + b"\0" * (len(raw) % 2)
    return bytes(head + bytes(4) + tail)


def reduced(tags: Tags, limit: int) -> tuple[Tags, list[str]]:
    """Drop the largest tags until `packed` returns at most `limit` bytes. Return the others and the dropped names."""
    places: list[tuple[int, str, tuple[int, int]]] = []

    def visit(directory: Tags, group: int) -> None:
        for tag, entry in directory.entries.items():
            if isinstance(entry, Tags):
                visit(entry, tag)
            else:
                places.append((12 + (len(entry[1]) if len(entry[1]) > 4 else 0), tag_name(tag, group), (group, tag)))

    visit(tags, 0)
    over, dropped, names = len(packed(tags)) - limit, set(), []
    for size, name, place in sorted(places, reverse=True):
        if over <= 0:
            break
        over -= size
        dropped.add(place)
        names.append(name)

    def kept(directory: Tags, group: int) -> Tags:
        inner = {
            tag: kept(entry, tag) if isinstance(entry, Tags) else entry for tag, entry in directory.entries.items()
        }
        return Tags(
            {
                tag: entry
                for tag, entry in inner.items()
                if (group, tag) not in dropped and not (isinstance(entry, Tags) and not entry.entries)
            }
        )

    return kept(tags, 0), names
