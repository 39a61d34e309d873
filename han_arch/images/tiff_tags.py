"""Add EXIF and XMP tags to a finished TIFF file. Neither Pillow nor tifffile can write all of them."""

import os
import struct
from typing import BinaryIO

from han_arch.images.exif import Tags, directory_bytes

_XMP, _BYTE = 700, 1


def add_tags(file: BinaryIO, tags: Tags | None, xmp: bytes | None) -> None:
    """Add tags to a TIFF file that is open for reading and writing. Tags that the file has already stay as they are.

    The function writes a new directory to the end of the file. It does nothing for files with 64-bit offsets.
    """
    entries = dict(tags.entries) if tags else {}
    if xmp:
        entries[_XMP] = _BYTE, xmp
    file.seek(0)
    start = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(start[:4])
    if not entries or order is None:
        return
    file.seek(struct.unpack(f"{order}I", start[4:])[0])
    (count,) = struct.unpack(f"{order}H", file.read(2))
    present = [file.read(12) for _ in range(count)]
    end = file.seek(0, os.SEEK_END)
    end += file.write(bytes(end % 2))
    others = {struct.unpack(f"{order}H", entry[:2])[0]: entry for entry in present}
    file.write(directory_bytes(Tags(entries), end, order, others))
    file.seek(4)
    file.write(struct.pack(f"{order}I", end))
