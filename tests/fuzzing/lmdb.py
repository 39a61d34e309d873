"""Hostile LMDBs: the data sets of `basicsr data prepare`, with damage to data.mdb, to meta_info.txt or to an image."""

import random
import shutil
import tempfile
from functools import cache
from pathlib import Path

import lmdb
import numpy as np
from fuzzing import images, trial
from fuzzing.damage import damaged

_SETS = ("GT_sub_x2.lmdb", "LR_sub_BIx2.lmdb")


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write HR images and the two LMDBs made from them, one of them damaged; return the folder of the LMDBs."""
    shutil.copytree(_valid(), folder, dirs_exist_ok=True)
    path = folder / "datasets"
    one = path / rng.choice(_SETS)
    if rng.randrange(5) == 0:
        _value(rng, one)
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        rng.choice((_data, _data, _data, _meta, _entries))(rng, one)
    if rng.randrange(8) == 0:
        one.rename(one.with_name(f"{one.name}.partial"))
    (path / trial.MINE).write_text("mine")
    return path


def check(path: Path, out: Path) -> str:
    """Check the LMDBs, or let `data prepare` find them as its own earlier result."""
    rng = random.Random("".join(sorted(trial.contents(path).values())))
    if rng.randrange(3):
        with trial.nothing_lost(path.parent, out, written=False):
            status, _ = trial.run("data", "verify", path, "--workers", 1)
        return f"verify, status {status}"
    mine = (path / trial.MINE).read_bytes()
    with trial.nothing_lost(path.parent / "hr", out):
        status, _ = trial.run(*_prepare(path.parent))
    if (path / trial.MINE).read_bytes() != mine:
        raise trial.Finding(f"{trial.MINE} was changed")
    return f"prepare, status {status}"


def _prepare(folder: Path) -> list[object]:
    grid = ["--crop-size", 24, "--step", 24, "--gt-size", 24]
    return [
        "data",
        "prepare",
        folder / "hr",
        "-o",
        folder / "datasets",
        "--scale",
        2,
        "--only",
        "lmdb",
        "--workers",
        1,
        *grid,
    ]


@cache
def _valid() -> Path:
    """Make valid LMDBs once in each process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz_lmdb_"))
    (folder / "hr").mkdir()
    for name in ("a", "b"):
        (folder / "hr" / f"{name}.png").write_bytes(_png(48))
    status, output = trial.run(*_prepare(folder))
    if status:
        raise RuntimeError(output)
    return folder


def _png(side: int) -> bytes:
    from han_arch.images.write import encode_png

    return encode_png(np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8))


def _value(rng: random.Random, path: Path) -> None:
    """Put another value at a key, or add a key."""
    with lmdb.open(str(path)) as env, env.begin(write=True) as transaction:
        keys = [bytes(key) for key in transaction.cursor().iternext(values=False)]
        key = rng.choice((*keys, *keys, b"d.png", "ä".encode(), b"x" * 200, b"..", b"a/b", b"\xff\0"))
        transaction.put(key, rng.choice((b"", damaged(rng, _png(24)), rng.choice(images.valid_files())[1], _png(20))))


def _data(rng: random.Random, path: Path) -> None:
    """Damage the pages of data.mdb: single bytes anywhere, a cut, zeros, or another file."""
    file = path / "data.mdb"
    if not file.is_file():
        return
    data = bytearray(file.read_bytes())
    way = rng.randrange(6)
    if way == 0:
        del data[rng.choice((0, 1, 100, 4096, 8192, len(data) - 1, rng.randrange(len(data) + 1))) :]
    elif way == 1:
        at = rng.randrange(0, len(data) + 1, 4096)
        data[at : at + 4096] = rng.choice((bytes(4096), rng.randbytes(4096), data[:4096]))
    elif way == 2:
        for _ in range(rng.choice((1, 10, 200))):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif way == 3 and data:  # the fields of the two header pages and of the page headers
        at = rng.choice(range(0, len(data), 4096)) + rng.randrange(0, 160, 2)
        data[at : at + 2] = rng.choice((b"\0\0", b"\xff\xff", b"\xff\x7f", b"\1\0", rng.randbytes(2)))
    elif way == 4:
        data = bytearray(damaged(rng, bytes(data)))
    else:
        data = bytearray(rng.choice((b"", _png(24), bytes(8192), rng.randbytes(20000))))
    file.write_bytes(data)


def _meta(rng: random.Random, path: Path) -> None:
    file = path / "meta_info.txt"
    if not file.is_file():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    way = rng.randrange(8)
    if way == 0:
        lines = lines[: rng.randrange(len(lines) + 1)]
    elif way == 1:
        lines.append(
            rng.choice(
                (b"zzz.png (8,6,3) 1\n", b"\n", b"a.png\n", b"a.png (8,6) 1\n", b"a.png (x,y,z) q\n", b"\xff\xfe\n")
            )
        )
    elif way == 2:
        lines = [
            line.replace(b"24,24,3", rng.choice((b"25,24,3", b"24,24,1", b"-24,24,3", b"", b"8" * 400)))
            for line in lines
        ]
    elif way == 3:
        lines = [line.replace(b"\n", b"\r\n") for line in lines]
    elif way == 4:
        lines = [b"\xef\xbb\xbf", *lines]
    elif way == 5:
        lines = [b"".join(lines).decode("latin-1").encode("utf-16")]
    elif way == 6:
        lines = [*lines, *lines]
    else:
        lines = [damaged(rng, b"".join(lines))]
    file.write_bytes(b"".join(lines))


def _entries(rng: random.Random, path: Path) -> None:
    """Remove a file of the LMDB, or put a folder or a link in its place."""
    file = path / rng.choice(("data.mdb", "meta_info.txt", "lock.mdb", ".prepare.json"))
    if not file.is_file():
        return
    file.unlink()
    way = rng.randrange(4)
    if way == 0:
        file.mkdir()
    elif way == 1:
        file.symlink_to("nowhere")
    elif way == 2:
        file.symlink_to(file.name)
