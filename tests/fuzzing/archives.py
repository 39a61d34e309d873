"""Hostile zip archives: odd names, links, bombs, wrong sizes and methods, overlaps, and damage to any byte."""

import random
import zipfile
from pathlib import Path

from fuzzing import trial
from fuzzing.damage import damaged

LIMIT = 2_000_000
_NAMES = (
    "a", "a/b", "a/", "", ".", "./", "..", "../x", "a/../../x", "/etc/x", "//x", "C:x", "C:/x", "a\\b", "..\\x",
    "n" * 300, "d/" * 600 + "x", "a\0b", "\0", "A", "a.", "a ", "con", "aux.png", "a:b", "x\ny", "\x1b[2Jx",
    "\u202egnp.x", "\u00e9.png", "e\u0301.png", "\U0001f600.png", "images/1.png", "images/2.png", "images/1.PNG",
    "a//b", "./a", "a/.", ".hidden", " ", "~", "-rf", "*?", "0" * 255, "\u00fc" * 200,
)  # fmt: skip
_FIELDS = {4: 2, 6: 2, 8: 2, 10: 2, 12: 4, 16: 4, 20: 4, 24: 4, 28: 2, 30: 2, 32: 2, 34: 2, 36: 2, 38: 4, 42: 4}


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write a zip file with hostile entries or damage; return its path."""
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for _ in range(rng.choice((0, 1, 2, 2, 3, 5))):
            _add(rng, archive)
    data = bytearray(path.read_bytes())
    way = rng.randrange(4)
    if way == 0 and (at := data.rfind(b"PK\x01\x02")) >= 0:  # a field of the central directory
        offset, size = rng.choice(list(_FIELDS.items()))
        value = rng.choice((0, 1, 4, 12, 14, 99, 2**31, 2**32 - 1, rng.randrange(2**16))) % 256**size
        data[at + offset : at + offset + size] = value.to_bytes(size, "little")
    elif way == 1:
        data = bytearray(damaged(rng, bytes(data), bytes(data)))
    path.write_bytes(data)
    return path


def _add(rng: random.Random, archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("x", (1980 + rng.randrange(100), 1, 1, 0, 0, 0))
    info.filename = rng.choice(_NAMES)
    info.compress_type = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    info.create_system = rng.choice((0, 3))
    info.external_attr = rng.choice((0, 0, 0o100644, 0o120777, 0o010644, 0o060644, 0o040755)) << 16
    content = rng.choice((b"", b"data", bytes(range(256)), b"\0" * 1_500_000, rng.randbytes(1000)))
    archive.writestr(info, content)


def check(path: Path, out: Path) -> str:
    """Unpack the archive below `out`, where a file of the user is."""
    from han_arch.unpack import UnsafeArchive, unpack_zip

    (out / trial.MINE).write_text("mine")
    members = random.Random(path.stat().st_size).choice((None, None, r"images/(\d)(\.png)"))
    with trial.nothing_lost(path.parent, written=False), trial.nothing_lost(out):
        outcome = trial.called(unpack_zip, path, out / "deep" / "set", LIMIT, members, refusals=(UnsafeArchive,))
    found = {name for name in trial.contents(out) if name not in (trial.MINE, "deep")}
    if any(name.split("/")[:2] != ["deep", "set"] for name in found):
        raise trial.Finding(f"outside the target: {sorted(found)}")
    if outcome == "refused" and found:
        raise trial.Finding(f"left after a refusal: {sorted(found)}")
    return outcome
