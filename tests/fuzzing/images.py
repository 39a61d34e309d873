"""Hostile image files: small files of every format that the program reads or writes, then damaged."""

import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path

import numpy as np
from fuzzing import trial
from fuzzing.damage import damaged
from PIL import Image

SCALE = 2
_SUFFIXES = (".png", ".jpg", ".webp", ".tif", ".bmp", ".jpeg", ".PNG", ".tiff", ".JPG")
_FORMATS = ("png", "jpeg", "webp", "tiff")
_MEMORY = "760M"  # 650 MB of it are Python with PyTorch
_GROWTH = 300_000_000  # bytes that one upscaled image may add to the memory of the process
_DATA_PIXELS = 16_000_000  # data sets have no limit, so larger claims of a header are not tried there
_KEPT = b"not an image, and not yours\n"


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write one damaged image file. One in eight is not damaged; one in six has another format's suffix."""
    suffix, data = rng.choice(valid_files())
    make = rng.choice((_chunks, _exif, _any_bytes, _any_bytes, _whole, _claims, _any_bytes, _any_bytes))
    data = make(rng, data)
    if rng.randrange(6) == 0:
        suffix = rng.choice(_SUFFIXES)
    path = folder / f"{rng.choice(('picture', 'picture', 'a b', 'ä', '-x', 'x' * 60))}{suffix}"
    path.write_bytes(data)
    return path


def check(path: Path, out: Path) -> str:
    """Upscale the file, and read it as an image of a data set."""
    from han_arch.images.picture import ImageError
    from han_arch.images.read import read_picture

    data = path.read_bytes()
    rng = random.Random(data)
    target_format = rng.choice((None, *_FORMATS))
    chosen = ["--format", target_format] if target_format else []
    (out / trial.MINE).write_bytes(_KEPT)
    flags = ["--compare"] if rng.randrange(8) == 0 else []
    model = checkpoint()
    import_module("han_arch.commands.upscale")  # its memory is not counted
    before = trial.resident("VmRSS:")
    with trial.nothing_lost(path.parent, out):
        status, output = trial.run(
            "upscale", path.parent, "-o", out, "--model", model, "--memory", _MEMORY, *chosen, *flags
        )
    if (growth := trial.resident("VmHWM:") - before) > _GROWTH:
        raise trial.Finding(f"memory: {growth / 1e6:.0f} MB with --memory {_MEMORY}: {output}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial.called(_read_as_data, data, refusals=(ImageError,))
    written = [file for file in out.rglob("*") if file.is_file() and file.name != trial.MINE]
    if status:
        if written:
            raise trial.Finding(f"exit status {status}, but wrote {written}: {output}")
        return f"refused, status {status}"
    if not written:
        raise trial.Finding(f"exit status 0, but wrote nothing: {output}")
    for file in written:
        trial.called(read_picture, file.read_bytes(), refusals=())
    return f"upscaled to {target_format or 'its format'}"


@cache
def checkpoint() -> Path:
    """Return the checkpoint file of a small network, made once in each process."""
    import tempfile

    from known_engines import save_checkpoint, tiny_net

    return save_checkpoint(Path(tempfile.mkdtemp(prefix="fuzz_weights_")) / "tiny.pth", tiny_net(upscale=SCALE))


def _read_as_data(data: bytes) -> None:
    from han_arch.images.read import decode_image, read_header

    height, width, _ = read_header(io.BytesIO(data)).shape
    if height * width <= _DATA_PIXELS:
        decode_image(data)


def _any_bytes(rng: random.Random, data: bytes) -> bytes:
    return damaged(rng, data, rng.choice(valid_files())[1])


def _whole(rng: random.Random, data: bytes) -> bytes:
    return data


@cache
def valid_files() -> tuple[tuple[str, bytes], ...]:
    """Return (suffix, bytes) of small valid files: every format, mode, depth and way of storing."""
    generator = np.random.default_rng(0)
    found: list[tuple[str, bytes]] = []
    pictures = {
        mode: Image.fromarray(generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)).convert(mode)
        for mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr", "LA", "RGBA", "I;16", "I", "F")
    }
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0131] = 6, "Maker", "Software"
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: bytes(range(256)), 0x9286: b"UNICODE\0x"})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    extras = {"exif": exif.tobytes(), "icc_profile": _srgb_profile(), "dpi": (300, 300)}
    deflate = "tiff_adobe_deflate"
    variants: list[tuple[str, str, dict[str, object]]] = [
        (".png", "png", {}),
        (".png", "png", {**extras, "optimize": True}),
        (".png", "png", {"transparency": 0}),
        (".jpg", "jpeg", {}),
        (".jpg", "jpeg", {**extras, "progressive": True}),
        (".jpg", "jpeg", {"restart_marker_blocks": 1}),
        (".webp", "webp", {}),
        (".webp", "webp", {**extras, "lossless": True}),
        (".tif", "tiff", {}),
        (".tif", "tiff", {**extras, "compression": "tiff_lzw"}),
        (".tif", "tiff", {"compression": "jpeg"}),
        (".tif", "tiff", {"compression": deflate, "tiffinfo": {317: 2}}),
        (".tif", "tiff", {"compression": "group4"}),
        (".bmp", "bmp", {}),
        (".gif", "gif", {}),
        (".tga", "tga", {"rle": True}),
        (".jpg", "mpo", {"save_all": True}),
        (".ppm", "ppm", {}),
    ]
    for suffix, name, options in variants:
        for picture in pictures.values():
            file = io.BytesIO()
            try:
                picture.save(file, name, **options)
            except Exception:  # Pillow cannot write this mode in this format
                continue
            found.append((suffix if suffix in _SUFFIXES else ".png", file.getvalue()))
    return (*found, *_sixteen_bits(generator))


def _srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _sixteen_bits(generator: np.random.Generator) -> list[tuple[str, bytes]]:
    import cv2
    import tifffile

    found = []
    for channels in (1, 3, 4):
        pixels = generator.integers(0, 65536, (9, 11, channels), dtype=np.uint16)
        found.append((".png", cv2.imencode(".png", pixels)[1].tobytes()))
        for options in (
            {},
            {"tile": (16, 16)},
            {"compression": "zlib", "predictor": True},
            {"bigtiff": True},
            {"byteorder": ">"},
        ):
            file = io.BytesIO()
            kind = "rgb" if channels > 2 else "minisblack"
            tifffile.imwrite(file, pixels.squeeze(), photometric=kind, **options)
            found.append((".tif", file.getvalue()))
        file = io.BytesIO()
        tifffile.imwrite(file, pixels.astype(np.float32) / 65535, photometric=kind)
        found.append((".tif", file.getvalue()))
    return found


def _chunks(rng: random.Random, data: bytes) -> bytes:
    """Change the order, the number and the contents of PNG chunks or JPEG segments; checksums are right again."""
    if data.startswith(b"\x89PNG"):
        parts, join = png_chunks(data), partial(_as_png)
    elif data.startswith(b"\xff\xd8"):
        parts, join = _segments(data), _as_jpeg
    else:
        return _any_bytes(rng, data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        name, body = parts[at]
        way = rng.randrange(6)
        if way == 0:
            parts.insert(rng.randrange(len(parts)), parts.pop(at))
        elif way == 1 and len(parts) > 1:
            del parts[at]
        elif way == 2:
            parts.insert(at, (name, body))
        elif way == 3:
            parts[at] = (name, damaged(rng, body))
        elif data.startswith(b"\x89PNG"):
            parts.insert(rng.randrange(1, len(parts) + 1), rng.choice(_EXTRA_CHUNKS)(rng))
        else:
            parts.insert(
                rng.randrange(1, len(parts) + 1),
                (rng.choice((0xE1, 0xE2, 0xED, 0xFE, 0xDB)), rng.randbytes(rng.choice((0, 9, 3000)))),
            )
    return join(parts)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the (name, contents) of the chunks of a valid PNG file."""
    found, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _as_png(parts: list[tuple[bytes, bytes]]) -> bytes:
    whole = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def _segments(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            return [*found, (0xDA, data[at + 2 :])]
        found.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return found or [(0xDA, data[2:])]


def _as_jpeg(parts: list[tuple[int, bytes]]) -> bytes:
    whole = b"\xff\xd8"
    for name, body in parts:
        length = b"" if name == 0xDA else struct.pack(">H", min(65535, len(body) + 2))
        whole += bytes((0xFF, name)) + length + body
    return whole


_EXTRA_CHUNKS: tuple[Callable[[random.Random], tuple[bytes, bytes]], ...] = (
    lambda rng: (b"gAMA", struct.pack(">I", rng.choice((0, 1, 45455, 2**32 - 1)))),
    lambda rng: (b"cHRM", struct.pack(">8I", *[rng.choice((0, 31270, 2**32 - 1)) for _ in range(8)])),
    lambda rng: (b"sRGB", bytes([rng.choice((0, 3, 4, 255))])),
    lambda rng: (b"cICP", rng.randbytes(4)),
    lambda rng: (
        b"iCCP",
        b"name\0" + rng.choice((b"\0", b"\1")) + rng.choice((zlib.compress(rng.randbytes(300)), rng.randbytes(30))),
    ),
    lambda rng: (b"iCCP", b"bomb\0\0" + _bomb()),
    lambda rng: (b"zTXt", b"Comment\0\0" + _bomb()),
    lambda rng: (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + rng.randbytes(50)),
    lambda rng: (b"tEXt", rng.choice((b"", b"a" * 200, b"Key\0" + b"v" * 5000))),
    lambda rng: (b"eXIf", rng.choice((b"", b"MM\0*", tags(rng), rng.randbytes(40)))),
    lambda rng: (b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 256, 700)))),
    lambda rng: (b"pHYs", struct.pack(">IIB", *rng.choice(((0, 0, 1), (2**32 - 1, 1, 1), (2834, 2834, 7))))),
    lambda rng: (b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31)), 0)),
    lambda rng: (b"PLTE", rng.randbytes(rng.choice((0, 3, 4, 768, 900)))),
    lambda rng: (b"sBIT", rng.randbytes(rng.choice((1, 3, 4)))),
    lambda rng: (b"bKGD", rng.randbytes(rng.choice((1, 2, 6)))),
    lambda rng: (b"IDAT", rng.choice((b"", zlib.compress(bytes(100))))),
    lambda rng: (rng.randbytes(4), rng.randbytes(20)),
)


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(20_000_000), 9)


def tags(rng: random.Random) -> bytes:
    """Return EXIF data with random types, counts and offsets, among them an orientation."""
    order = rng.choice("<>")
    entries = [
        (0x0112, rng.choice((2, 3, 4, 5, 12)), rng.choice((1, 1, 2, 2**31)), rng.choice((0, 1, 3, 6, 8, 9, 65535)))
    ]
    for _ in range(rng.choice((0, 1, 4, 30))):
        tag = rng.choice(
            (0x8769, 0x8825, 0xA005, 0x011A, 0x0128, 0x0131, 0x9286, 0x927C, 0x02BC, 0x8773, rng.randrange(65536))
        )
        entries.append(
            (
                tag,
                rng.randrange(14),
                rng.choice((0, 1, 2, 100, 2**31, 2**32 - 1)),
                rng.choice((0, 8, 26, 2**32 - 1, rng.randrange(300))),
            )
        )
    packed = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    count = rng.choice((len(entries), len(entries), 0, 65535))
    return (
        head
        + struct.pack(order + "H", count)
        + packed
        + struct.pack(order + "I", rng.choice((0, 0, 8, 2**32 - 1)))
        + rng.randbytes(60)
    )


def _exif(rng: random.Random, data: bytes) -> bytes:
    """Give a PNG, JPEG, WebP or TIFF file other EXIF data, random in every field or just too long."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore")
            image.load()
            name = image.format if image.format in ("PNG", "JPEG", "WEBP") else "PNG"
            file = io.BytesIO()
            exif = b"Exif\0\0" + rng.choice((tags(rng), tags(rng), damaged(rng, tags(rng)), tags(rng) + bytes(65000)))
            image.save(file, name, exif=exif[: 65000 if name == "JPEG" else None])
            return file.getvalue()
    except Exception:
        return _any_bytes(rng, data)


def _claims(rng: random.Random, data: bytes) -> bytes:
    """Let the header claim another size, up to the largest that it can hold."""
    side = (0, 1, 7, 11, 500, 5000, 20000, 65535, 2**24, 2**31 - 1, 2**32 - 1)
    height, width = rng.choice(side), rng.choice(side)
    result = bytearray(data)
    if data.startswith(b"\x89PNG"):
        header = struct.pack(">II", width, height) + data[24:29]
        if rng.randrange(3) == 0:
            header = (
                header[:8]
                + bytes(rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(2))
                + bytes(rng.choice((0, 0, 1)) for _ in range(3))
            )
        result[16:33] = header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    elif data.startswith(b"BM"):
        result[18:26] = struct.pack("<II", width, rng.choice((height, 2**32 - height & 0xFFFFFFFF)))
    elif (at := max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))) > 0:
        result[at + 5 : at + 9] = struct.pack(">HH", height & 0xFFFF, width & 0xFFFF)
    elif (at := data.find(b"VP8 ")) > 0:
        result[at + 14 : at + 18] = struct.pack("<HH", width & 0xFFFF, height & 0xFFFF)
    elif (at := data.find(b"VP8L")) > 0:
        result[at + 9 : at + 13] = struct.pack("<I", rng.randrange(1 << 32))
    elif data[:4] in (b"II*\0", b"MM\0*"):
        order = "<" if data[:2] == b"II" else ">"
        start = struct.unpack(order + "I", data[4:8])[0]
        count = struct.unpack(order + "H", data[start : start + 2])[0]
        for _ in range(rng.choice((1, 1, 2, 4))):
            entry = start + 2 + 12 * rng.randrange(max(1, count))
            if entry + 12 <= len(result):
                result[entry + 2 : entry + 12] = struct.pack(
                    order + "HII",
                    rng.choice((1, 3, 4, 5, 12, 13, 255)),
                    rng.choice((0, 1, 2, 3, 2**31)),
                    rng.choice((*side, rng.randrange(65536))),
                )
    return bytes(result)
