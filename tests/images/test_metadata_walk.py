"""Every input format with every kind of metadata, upscaled to every output format: each is kept, or a note names it."""

import io
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from known_engines import Repeat, photo
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from han_arch.images.formats import FORMATS
from han_arch.images.read import read_picture
from han_arch.images.write import WriteOptions
from han_arch.inference.files import UpscaleSettings, upscale_files
from han_arch.inference.jobs import UpscaleJob

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF '
    b'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6" tiff:Make="Maker"/></r:RDF></x:xmpmeta><?xpacket end="w"?>'
)
FIRST = {0x010E: "Title", 0x010F: "Maker", 0x0110: "Model", 0x013B: "Artist", 0x8298: "Owner", 0x4746: 5}
CAMERA = {0x9003: "2026:01:02 03:04:05", 0x829A: 0.25, 0x8827: 400, 0xA434: "Lens", 0x9286: b"ASCII\0\0\0words"}
PLACE = {0: b"\2\3\0\0", 1: "N", 2: (48.0, 8.0, 12.5), 6: 520.5}


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags.update(FIRST)
    tags[0x9C9B] = "Größe".encode("utf-16-le")  # XPTitle
    tags[0x0112] = 6
    tags[EXIF] = {**CAMERA, 0x927C: b"note of the maker", 0xA002: 12, INTEROP: {1: "R98", 2: b"0100"}}
    tags[GPS] = PLACE
    return tags


def png_info() -> PngInfo:
    info = PngInfo()
    info.add(b"gAMA", struct.pack(">I", 45_455))
    info.add(b"cHRM", struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000))
    info.add(b"cICP", b"\x01\x0d\0\x01")
    info.add(b"sBIT", b"\5\6\5")
    info.add_text("parameters", "a prompt")
    info.add_itxt("Title", "Größe", "de", "Titel", zip=True)
    info.add_text("Comment", "compressed", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


IPTC = b"\x1c\x02\x78\0\x07caption"
PHOTOSHOP = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC


def source(kind: str) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(photo(8, 12))
    if kind == "png":
        picture.save(file, "png", exif=exif(), icc_profile=SRGB, dpi=(300, 300), pnginfo=png_info())
    elif kind == "jpeg":
        extra = segment(0xED, PHOTOSHOP) + segment(0xEC, b"Ducky")
        picture.save(
            file, "jpeg", exif=exif(), icc_profile=SRGB, dpi=(300, 300), comment=b"words", extra=extra, xmp=XMP
        )
    elif kind == "webp":
        tags = exif()
        tags[282], tags[283], tags[296] = 300.0, 300.0, 2
        picture.save(file, "webp", exif=tags, icc_profile=SRGB, xmp=XMP, lossless=True)
    elif kind == "tiff":
        tags = exif()
        tags[700], tags[33723] = XMP, IPTC
        picture.save(file, "tiff", exif=tags.tobytes(), icc_profile=SRGB, dpi=(300, 300))
    elif kind == "tiff16":
        tags = [(tag, 2, 0, str(value), True) for tag, value in FIRST.items() if isinstance(value, str)]
        tags += [(274, 3, 1, 6, True), (700, 1, len(XMP), XMP, True), (301, 3, 3, (1, 2, 3), True)]
        tifffile.imwrite(
            file, photo(8, 12, 3, np.uint16), photometric="rgb", iccprofile=SRGB, resolution=(300, 300),
            resolutionunit="INCH", extratags=tags, metadata=None,
        )  # fmt: skip
    else:
        picture.save(file, "bmp", dpi=(300, 300))
    return file.getvalue()


# kind of the source -> the names that are dropped for every output format, and those that only the own format keeps
SOURCES: dict[str, tuple[list[str], list[str]]] = {
    "png": (["MakerNote", "sBIT"], ["gAMA", "cHRM", "cICP", "tEXt parameters", "iTXt Title", "zTXt Comment"]),
    "jpeg": (["MakerNote", "APP12"], ["comment", "IPTC"]),
    "webp": (["MakerNote"], []),
    "tiff": (
        ["MakerNote", "IPTC", "ExifInteroperabilityOffset"],
        [],
    ),  # Pillow loses this directory
    "tiff16": (["TransferFunction"], []),
    "bmp": ([], []),
}


def without_orientation(xmp: bytes) -> bytes:
    """Remove an orientation of 1, as Pillow does when it loads a TIFF file."""
    return re.sub(rb' *tiff:Orientation="1" *', b" ", xmp.replace(b"  ", b" "))


def plain(value: Any) -> Any:
    return tuple(map(float, value)) if isinstance(value, tuple) else value


def check_exif(tags: Image.Exif, camera: bool) -> None:
    for tag, value in FIRST.items():
        if camera or isinstance(value, str):
            assert tags[tag] == value
    assert tags.get(0x0112, 1) == 1
    if camera:
        assert tags[0x9C9B] == "Größe".encode("utf-16-le")
        found = tags.get_ifd(EXIF)
        assert {tag: found[tag] for tag in CAMERA} == CAMERA
        assert {0x927C, 0xA002}.isdisjoint(found)
        assert tags.get_ifd(INTEROP) == ({1: "R98", 2: b"0100"} if INTEROP in found else {})
        assert {tag: plain(value) for tag, value in tags.get_ifd(GPS).items()} == PLACE


@pytest.mark.parametrize("target", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("kind", list(SOURCES))
def test_walk(kind: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, result = tmp_path / f"in.{kind}", tmp_path / f"out.{target}"
    place.write_bytes(source(kind))
    settings = UpscaleSettings(WriteOptions(lossless=True), 2 * 10**9, "2G")
    assert upscale_files([UpscaleJob(place, result, FORMATS[target])], Repeat(), settings) == 0
    notes = " ".join(re.findall(r"dropped metadata: .*", capsys.readouterr().out))
    always, own = SOURCES[kind]
    assert all(name in notes for name in always)
    assert all((name in notes) == (target != kind) for name in own)
    with Image.open(io.BytesIO(result.read_bytes())) as image:
        image.load()
        assert image.size == ((16, 24) if kind != "bmp" else (24, 16))
        assert image.info.get("dpi", (300, 300)) == pytest.approx((300, 300), abs=0.02)
        assert "plan=full" in str(image.info.get("Software") or image.getexif()[305])
        if kind != "bmp":
            assert image.info["icc_profile"] == SRGB
            assert without_orientation(image.info["xmp"]) == without_orientation(XMP.replace(b'="6"', b'="1"'))
            check_exif(image.getexif(), kind != "tiff16")
        if kind == target == "png":
            assert image.info["gamma"] == 0.45455
            assert image.info["chromaticity"] == pytest.approx((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))
            assert b"cICP\x01\x0d\0\x01" in result.read_bytes()
            texts = {key: image.info[key] for key in ("parameters", "Title", "Comment")}
            assert texts == {"parameters": "a prompt", "Title": "Größe", "Comment": "compressed"}
        if kind == target == "jpeg":
            assert image.info["comment"] == b"words"
            assert image.info["photoshop"][0x0404] == IPTC
    again = read_picture(result.read_bytes())  # what was written can be read again, without new notes
    assert not [note for note in again.notes if "dropped" in note]


def test_metadata_of_sixteen_bit_files() -> None:
    """The 16-bit writers are not Pillow's."""
    for name in ("png", "tiff"):
        picture = read_picture(source("png"))
        wide = FORMATS[name].fit(type(picture)(**{**vars(picture), "pixels": photo(8, 12, 3, np.uint16)}), 8, 12)
        file = io.BytesIO()
        FORMATS[name].write(file, wide, WriteOptions(), "test")
        after = read_picture(file.getvalue())
        assert after.pixels.dtype == np.uint16
        assert after.exif is not None
        with Image.open(io.BytesIO(file.getvalue())) as image:
            image.load()
            check_exif(image.getexif(), camera=True)
            assert without_orientation(image.info["xmp"]) == without_orientation(XMP.replace(b'="6"', b'="1"'))
            assert name == "tiff" or (image.info["gamma"], image.info["Title"]) == (0.45455, "Größe")
