"""Damaged metadata: a bad tag is dropped alone and by its name; the orientation and all other tags stay."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from known_engines import photo
from PIL import Image, ImageCms, PngImagePlugin
from PIL.PngImagePlugin import PngInfo, putchunk

from han_arch.images.exif import Tags, packed, read_tags, reduced
from han_arch.images.formats import FORMATS
from han_arch.images.picture import ImageError, Picture
from han_arch.images.read import decode_image, read_picture
from han_arch.images.write import WriteOptions

Entry = tuple[int, int, int, bytes]  # tag, type, number of values, value
GOOD: list[Entry] = [(271, 2, 6, b"Apple\0"), (274, 3, 1, b"\6\0")]
EXIF, GPS = 0x8769, 0x8825


def directory(entries: list[Entry], at: int) -> bytes:
    head, body, data = struct.pack("<H", len(entries)), b"", b""
    for tag, kind, count, value in entries:
        if len(value) > 4:
            value, data = struct.pack("<I", at + 6 + 12 * len(entries) + len(data)), data + value
        body += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    return head + body + bytes(4) + data


def exif(first: list[Entry], below: list[Entry] | None = None, pointer: int = GPS) -> bytes:
    """Return EXIF data with tags in the first directory, and in the one to which the tag `pointer` points."""
    if below is not None:
        at = 8 + len(directory([*first, (pointer, 4, 1, bytes(4))], 8))
        return (
            b"Exif\0\0II*\0\x08\0\0\0"
            + directory([*first, (pointer, 4, 1, struct.pack("<I", at))], 8)
            + directory(below, at)
        )
    return b"Exif\0\0II*\0\x08\0\0\0" + directory(first, 8)


def saved(format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo(8, 12)).save(file, format, **options)
    return file.getvalue()


def jpeg(tags: bytes) -> bytes:
    data = saved("jpeg")
    return data[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(tags) + 2) + tags + data[2:]


def tiff(tags: bytes) -> bytes:
    """Return a TIFF file with the tags of EXIF data; offsets within the data stay right."""
    body = tags.removeprefix(b"Exif\0\0")
    (count,) = struct.unpack_from("<H", body, 8)
    mine = {struct.unpack_from("<H", body, 10 + 12 * i)[0]: body[10 + 12 * i : 22 + 12 * i] for i in range(count)}
    pixels = len(body)
    for tag, value in ((256, 12), (257, 8), (262, 1), (273, pixels), (278, 8), (279, 96)):
        mine[tag] = struct.pack("<HHII", tag, 4, 1, value)
    mine[258] = struct.pack("<HHIHH", 258, 3, 1, 8, 0)
    start = pixels + 96
    table = b"".join(mine[tag] for tag in sorted(mine))
    return body[:4] + struct.pack("<I", start) + body[8:] + bytes(96) + struct.pack("<H", len(mine)) + table + bytes(4)


BAD: dict[str, tuple[bytes, str]] = {
    "wrong type": (exif(GOOD, [(1, 2, 2, b"N\0"), (6, 7, 4, b"abcd")]), "EXIF GPSAltitude (damaged)"),
    "alone": (exif(GOOD, [(6, 7, 4, b"abcd")]), "EXIF GPSAltitude (damaged)"),
    "unknown type": (exif([*GOOD, (0x9C9B, 99, 4, b"abcd")]), "EXIF XPTitle (damaged)"),
    "beyond the end": (exif([*GOOD, (315, 2, 99, b"\xff\xff\xff\x7f")]), "EXIF Artist (damaged)"),
    "too many": (exif([*GOOD, (0x9C9B, 1, 0xFFFFFFFF, b"abcd")]), "EXIF XPTitle (damaged)"),
    "pointer to nowhere": (exif([*GOOD, (GPS, 4, 1, b"\xff\xff\xff\x7f")]), "EXIF GPSInfo (damaged)"),
    "pointer of a wrong type": (exif([*GOOD, (GPS, 2, 4, b"abc\0")]), "EXIF GPSInfo (damaged)"),
    "note of the maker": (exif(GOOD, [(0x927C, 7, 5, b"maker"), (0xA434, 2, 5, b"Lens\0")], EXIF), "EXIF MakerNote"),
}


@pytest.mark.parametrize("make", [jpeg, tiff])
@pytest.mark.parametrize("kind", list(BAD))
def test_a_bad_tag_is_dropped_alone(kind: str, make: object) -> None:
    tags, name = BAD[kind]
    picture = read_picture(make(tags))  # type: ignore[operator]
    assert picture.pixels.shape[:2] == (12, 8)
    (note,) = picture.notes
    assert name in note
    assert picture.exif is not None
    assert picture.exif.entries[271] == (2, b"Apple\0")
    for target in ("png", "jpeg", "webp", "tiff"):
        file = io.BytesIO()
        FORMATS[target].write(file, FORMATS[target].fit(picture, 12, 8), WriteOptions(), "test")
        with Image.open(io.BytesIO(file.getvalue())) as image:
            image.load()
            image.getexif().tobytes()  # raises an error for tags that Pillow cannot write
            assert image.getexif()[271] == "Apple"
            if kind == "wrong type":
                assert image.getexif().get_ifd(GPS) == {1: "N"}


@pytest.mark.parametrize("value", [(274, 3, 1, b"\x63\0"), (274, 2, 2, b"6\0")], ids=["99", "text"])
def test_an_orientation_that_means_nothing_is_named(value: Entry) -> None:
    picture = read_picture(jpeg(exif([GOOD[0], value])))
    assert picture.pixels.shape[:2] == (8, 12)
    assert "EXIF Orientation (damaged)" in picture.notes[0]


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_of_type_long_is_applied_without_a_note(order: str) -> None:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    picture = read_picture(jpeg(b"Exif\0\0" + magic + struct.pack(f"{order}IHHHIII", 8, 1, 274, 4, 1, 6, 0)))
    assert picture.pixels.shape[:2] == (12, 8)
    assert not picture.notes


def test_text_outside_ascii_and_big_endian_numbers_stay() -> None:
    text = "Größe".encode()
    comment = b"UNICODE\0" + "Wört".encode("utf-16-be")
    body = struct.pack(">HHHIIHHIII", 2, 270, 2, len(text), 38, 0x829A, 5, 1, 38 + len(text), 0)
    tags = read_tags(b"MM\0*\0\0\0\x08" + body + text + struct.pack(">II", 1, 250))
    assert tags.entries == {270: (2, text), 0x829A: (5, struct.pack("<II", 1, 250))}
    assert read_tags(packed(tags)) == tags
    assert comment[8:].decode("utf-16-be") == "Wört"


def test_many_tags_that_share_their_bytes_take_no_more_memory() -> None:
    shared = exif([(40_000 + index, 7, 9_000, b"\x08\0\0\0") for index in range(750)])
    kept = read_tags(shared)
    assert sum(len(entry[1]) for entry in kept.entries.values()) <= len(shared)  # type: ignore[arg-type]


def test_many_pointers_to_one_place_take_no_time() -> None:
    count = 400  # the number of steps would be its third power
    second, third = 14 + 12 * count, 20 + 24 * count
    damaged: list[Entry] = [(40_000 + index % 9, 0, 1, bytes(4)) for index in range(count)]
    data = exif([(EXIF, 4, 1, struct.pack("<I", second))] * count)
    data += directory([(0xA005, 4, 1, struct.pack("<I", third))] * count, second) + directory(damaged, third)
    before = time.process_time()
    assert read_tags(data).damaged == ["ExifInteroperabilityOffset"]
    assert time.process_time() - before < 1


def test_the_largest_tags_are_dropped_until_the_rest_fits() -> None:
    tags = Tags(
        {
            271: (2, b"Apple\0"),
            EXIF: Tags({0x9286: (7, bytes(70_000)), 0xA434: (2, b"Lens\0")}),
            GPS: Tags({27: (7, bytes(80_000))}),
        }
    )
    kept, names = reduced(tags, 60_000)
    assert names == ["GPSProcessingMethod", "UserComment"]
    assert kept == Tags({271: (2, b"Apple\0"), EXIF: Tags({0xA434: (2, b"Lens\0")})})
    picture = FORMATS["jpeg"].fit(Picture(photo(8, 12), exif=tags, xmp=b"<a>" + bytes(70_000)), 8, 12)
    (note,) = picture.notes
    assert "EXIF GPSProcessingMethod, EXIF UserComment, XMP, which jpeg cannot store" in note
    FORMATS["jpeg"].write(io.BytesIO(), picture, WriteOptions(), "s" * 500)


@pytest.mark.parametrize(
    ("format", "options", "name"),
    [
        ("webp", {"xmp": b"<open>"}, "XMP (damaged)"),
        ("webp", {"xmp": b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>'}, "XMP (damaged)"),
        ("jpeg", {"exif": b"Exif\0\0rubbish"}, "EXIF (damaged)"),
        ("tiff", {"tiffinfo": {700: 12}}, "XMP (damaged)"),
        ("tiff", {"tiffinfo": {34675: 12}}, "ICC profile"),
    ],
)
def test_damaged_blocks_are_named(format: str, options: dict, name: str) -> None:
    picture = read_picture(saved(format, **options))
    assert picture.pixels.shape == (8, 12, 3)
    assert name in " ".join(picture.notes)
    assert picture.xmp is None
    assert picture.icc is None


def test_profiles_that_pillow_cannot_read_are_named() -> None:
    data = saved("jpeg", icc_profile=bytes(70_000))
    second = data.index(b"ICC_PROFILE\0\2")
    cut = read_picture(data[:second] + b"XXX" + data[second + 3 :])
    assert "ICC profile (damaged)" in " ".join(cut.notes)
    info = PngInfo()
    info.add(b"iCCP", b"name\0\0no zlib data")
    file = io.BytesIO()
    file.write(saved("png")[:33])
    putchunk(file, b"iCCP", b"name\0\0no zlib data")
    file.write(saved("png")[33:])
    assert "ICC profile (damaged)" in " ".join(read_picture(file.getvalue()).notes)


@pytest.mark.parametrize("size", [1 << 21, 17 << 20], ids=["2 MB", "17 MB"])
@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP"])
def test_long_compressed_texts_are_read_or_named(kind: str, size: int) -> None:
    info, icc = PngInfo(), None
    if kind == "iCCP":
        icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(size, b"\0")
    else:
        (info.add_text if kind == "zTXt" else info.add_itxt)("Comment", "a" * size, zip=True)
    data, limit = saved("png", pnginfo=info, icc_profile=icc), PngImagePlugin.MAX_TEXT_CHUNK
    if size > 16 << 20:
        with pytest.raises(ImageError, match="PNG file are too long; remove them"):
            read_picture(data)
    else:
        picture = read_picture(data)
        assert [extra.name for extra in picture.extras] == ([] if icc else [f"{kind} Comment"])
        assert picture.icc == icc
        assert decode_image(data).shape == (8, 12, 3)
    assert limit == PngImagePlugin.MAX_TEXT_CHUNK


@pytest.mark.parametrize("make", [jpeg, tiff])
def test_data_sets_read_images_with_damaged_tags(make: object) -> None:
    tags, _ = BAD["wrong type"]
    assert decode_image(make(tags)).shape[:2] == (12, 8)  # type: ignore[operator]


@pytest.mark.parametrize("declared", ["", '<?xml version="1.0" encoding="UTF-16"?>'])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_xmp_in_utf_16_becomes_utf_8(encoding: str, declared: str) -> None:
    text = '<a xmlns:tiff="t" tiff:Orientation="{}" title="Größe"/>'
    picture = read_picture(saved("tiff", tiffinfo={700: (declared + text.format(6)).encode(encoding)}))
    assert picture.xmp is not None
    assert picture.xmp.decode("utf-8-sig").endswith(text.format(1))
    assert not picture.notes


def grey_png(depth: int, row: bytes, width: int, transparent: int) -> bytes:
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(8)
    putchunk(file, b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, 0, 0, 0, 0))
    putchunk(file, b"tRNS", struct.pack(">H", transparent))
    putchunk(file, b"IDAT", zlib.compress(b"\0" + row))
    putchunk(file, b"IEND", b"")
    return file.getvalue()


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "grey"),
    [
        (1, b"\x40", 1, [0, 255]),
        (2, b"\x10", 1, [0, 85]),
        (4, b"\x0f", 15, [0, 255]),
        (8, b"\0\x05", 5, [0, 5]),
        (16, b"\0\x05\x01\x02", 258, [5, 258]),
    ],
    ids=["1", "2", "4", "8", "16"],
)
def test_a_transparent_grey_of_every_depth(depth: int, row: bytes, transparent: int, grey: list[int]) -> None:
    pixels = read_picture(grey_png(depth, row, 2, transparent)).pixels
    assert pixels.dtype == (np.uint16 if depth == 16 else np.uint8)
    assert pixels[0, :, 0].tolist() == grey
    assert pixels[0, :, 1].tolist() == [np.iinfo(pixels.dtype).max, 0]


@pytest.mark.parametrize("start", [b"", b"II*\0", b"MM\0*\0\0\0", b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0\0\0\0\0\0\0\0"])
def test_a_cut_header_of_exif_data_is_named(start: bytes) -> None:
    with pytest.raises(ValueError, match="complete header"):
        read_tags(b"Exif\0\0" + start)
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "png", exif=b"Exif\0\0" + (start or b"II"))
    (note,) = read_picture(file.getvalue()).notes
    assert "EXIF (damaged)" in note


def test_what_follows_the_end_of_a_png_file_is_no_metadata() -> None:
    image, text = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (4, 3)).save(image, "PNG")
    putchunk(text, b"zTXt", b"Comment\0\0" + zlib.compress(bytes(17 << 20), 9))  # too long to be read
    assert not read_picture(image.getvalue() + text.getvalue()).extras
