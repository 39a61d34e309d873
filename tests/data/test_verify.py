"""basicsr data verify: good sets pass, each kind of damage is found and reported, conventions are recognised."""

import re
import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from pictures import write_image
from PIL import Image

from han_arch.cli import main
from han_arch.data.degradation import CONVENTIONS
from han_arch.images.read import read_image


@pytest.fixture
def prepared(prepared_template, tmp_path) -> Path:
    """A prepared folder that a test may damage."""
    return Path(shutil.copytree(prepared_template, tmp_path / "prepared"))


def verify(*arguments) -> int:
    return main(["data", "verify", *map(str, arguments), "--workers", "1"])


def edit(path: Path, image: np.ndarray) -> None:
    write_image(path, np.ascontiguousarray(image))


def put(folder: Path, key: str, value: bytes | None) -> None:
    env = lmdb.open(str(folder), map_size=2**26)
    with env.begin(write=True) as transaction:
        if value is None:
            transaction.delete(key.encode())
        else:
            transaction.put(key.encode(), value)
    env.close()


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_good_sets_are_good(prepared, capsys):
    assert verify(prepared) == 0
    printed = capsys.readouterr().out
    assert printed.count(": good") == 3
    assert re.search(r"LR_BIx2: x2, made by BI symmetric: 0 of \d+ pixel values differ \(0.0000%\)", printed)


def lost_lq(root):
    (root / "LR_BIx2" / "a.png").unlink()


def extra_lq(root):
    shutil.copy(root / "LR_BIx2" / "a.png", root / "LR_BIx2" / "z.png")


def cut_short(root):
    path = root / "GT_x2" / "b.png"
    path.write_bytes(path.read_bytes()[:-100])


def flipped_bytes(root):
    path = root / "LR_sub_BIx2" / "a_s001.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def no_image(root):
    (root / "GT_x2" / "a.png").write_text("not an image")


def empty_file(root):
    (root / "GT_x2" / "a.png").write_bytes(b"")


def wrong_size(root):
    edit(root / "LR_BIx2" / "a.png", read_image(root / "LR_BIx2" / "a.png")[:-1])


def swapped(root):
    first, second = (root / "LR_sub_BIx2" / f"a_s00{n}.png" for n in (1, 2))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def one_sample_changed(root):
    pixels = read_image(root / "LR_BIx2" / "a.png").copy()
    pixels[0, 0, 0] ^= 1
    edit(root / "LR_BIx2" / "a.png", pixels)


def deep(root):
    pixels = read_image(root / "GT_x2" / "a.png").astype(np.uint16) * 257
    cv2.imwrite(str(root / "GT_x2" / "a.png"), pixels)


def alpha(root):
    path = root / "GT_x2" / "a.png"
    image = Image.open(path).convert("RGBA")
    image.putpixel((3, 2), (0, 0, 0, 0))
    image.save(path)


def grey_partner(root):
    path = root / "LR_BIx2" / "a.png"
    Image.open(path).convert("L").save(path)


def other_convention(root):
    for path in (root / "GT_x2").glob("*.png"):
        edit(root / "LR_BIx2" / path.name, CONVENTIONS["OpenCV's bicubic"](read_image(path), 2))


def truncated_mdb(root):
    data = root / "GT_sub_x2.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def lost_mdb(root):
    (root / "GT_sub_x2.lmdb" / "data.mdb").unlink()


def garbage_header(root):
    data = root / "GT_sub_x2.lmdb" / "data.mdb"
    content = data.read_bytes()
    data.write_bytes(b"\x5a" * 8192 + content[8192:])


def lost_meta(root):
    (root / "LR_sub_BIx2.lmdb" / "meta_info.txt").unlink()


def key_lost(root):
    put(root / "LR_sub_BIx2.lmdb", "a_s001", None)


def key_extra(root):
    put(root / "GT_sub_x2.lmdb", "stray", (root / "GT_x2" / "a.png").read_bytes())


def value_damaged(root):
    put(root / "GT_sub_x2.lmdb", "a_s001", (root / "GT_sub_x2" / "a_s001.png").read_bytes()[:200])


def value_of_another(root):
    put(root / "LR_sub_BIx2.lmdb", "a_s001", (root / "LR_sub_BIx2" / "a_s004.png").read_bytes())


def meta_shape(root):
    rewrite(root / "GT_sub_x2.lmdb" / "meta_info.txt", "a_s001.png (48,48,3)", "a_s001.png (48,47,3)")


def meta_blank_line(root):
    rewrite(root / "GT_sub_x2.lmdb" / "meta_info.txt", "\n", "\n\n")


def meta_twice(root):
    path = root / "GT_sub_x2.lmdb" / "meta_info.txt"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[0])


def unfinished(root):
    (root / "GT_x2").rename(root / "GT_x2.partial")


def both_lost(root):
    for folder in ("GT_x2", "LR_BIx2"):
        (root / folder / "a.png").unlink()


def record_damaged(root):
    (root / "GT_x2" / ".prepare.json").write_text("[1]")


def one_stem_twice(root):
    Image.open(root / "GT_x2" / "a.png").save(root / "GT_x2" / "a.bmp")


DAMAGES = {
    lost_lq: "LR_BIx2 has no LR image a for GT image a of",
    extra_lq: "GT_x2 has no GT image for LR image z of",
    cut_short: "b.png: damaged",
    flipped_bytes: "a_s001.png: damaged",
    no_image: "a.png: not an image",
    empty_file: "a.png: empty file",
    wrong_size: "times 2 is not the GT size",
    swapped: "a_s001.png: .* made from another GT image",
    one_sample_changed: r"a.png: 1 of \d+ pixel values differ from the output of BI symmetric",
    deep: "a.png: the image has 16 bits",
    alpha: "a.png: .*alpha channel with transparent pixels",
    grey_partner: "one image of the pair is grey",
    other_convention: "should be made by BIx2, but were made by OpenCV's bicubic",
    truncated_mdb: r"data.mdb is cut short: it has \d+ of \d+ bytes",
    lost_mdb: "GT_sub_x2.lmdb has no data.mdb",
    garbage_header: "data.mdb is not an LMDB, or its header is damaged",
    lost_meta: "no meta_info.txt",
    key_lost: "key a_s001 is in meta_info.txt but not in the LMDB",
    key_extra: "key stray is in the LMDB but not in meta_info.txt",
    value_damaged: "GT_sub_x2.lmdb: a_s001: damaged",
    value_of_another: "LR_sub_BIx2.lmdb: a_s001: .* made from another GT image",
    meta_shape: r"a_s001 has shape \(48, 48, 3\), but meta_info.txt contains \(48, 47, 3\)",
    meta_blank_line: "line 2 of meta_info.txt must be",
    meta_twice: "contains key a_s001 twice",
    unfinished: "GT_x2.partial is not finished",
    both_lost: "has 4 images, but basicsr data prepare made 5",
    one_stem_twice: "same name as",
    record_damaged: "prepare.json is damaged",
}


PAIRS = {"WHOLE": ("GT_x2", "LR_BIx2"), "SUB": ("sub_x2", "sub_BIx2"), "LMDB": ".lmdb"}
KINDS = {
    "LMDB": (
        *(truncated_mdb, lost_mdb, garbage_header, lost_meta, key_lost, key_extra),
        *(value_damaged, value_of_another, meta_shape, meta_blank_line, meta_twice),
    ),
    "SUB": (flipped_bytes, swapped),
    "WHOLE": tuple(DAMAGES),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found_and_named(prepared, capsys, damage):
    damage(prepared)
    # For speed, verify only the damaged pair; the test above shows that all of them were good.
    kind = next(kind for kind in ("LMDB", "SUB", "WHOLE") if damage in KINDS[kind])
    for folder in prepared.iterdir():
        if not folder.name.removesuffix(".partial").endswith(PAIRS[kind]):
            shutil.rmtree(folder)
    assert verify(prepared) == 1
    faults = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  BAD ")]
    assert any(re.search(DAMAGES[damage], fault) for fault in faults), faults


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_lmdb_does_not_end_the_process(prepared, capsys, share):
    data = prepared / "LR_sub_BIx2.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[: int(share * data.stat().st_size)])
    assert verify(data.parent) == 1
    assert "is cut short" in capsys.readouterr().out


def test_garbage_in_the_pages_does_not_end_the_process(prepared, capsys):
    data = prepared / "GT_sub_x2.lmdb" / "data.mdb"
    content = bytearray(data.read_bytes())
    content[8192:] = np.random.default_rng(0).bytes(len(content) - 8192)
    data.write_bytes(content)
    assert verify(data.parent) == 1
    assert "BAD" in capsys.readouterr().out


def test_matlab_files_and_name_templates(shared_data, tmp_path, capsys):
    for kind, folder, suffix in (("HR", "gt", ""), ("LRBI", "lq", "x4")):
        (tmp_path / folder).mkdir()
        for path in (shared_data / "known_answers" / "x4").glob(f"*_{kind}_x4.png"):
            shutil.copy(path, tmp_path / folder / f"{path.name.split('_')[0]}{suffix}.png")
    assert verify(tmp_path / "gt", tmp_path / "lq") == 0
    printed = capsys.readouterr().out
    assert "filename_tmpl: '{}x4'" in printed
    assert "x4, made by BI replicate: 0 of" in printed
    assert verify(tmp_path / "gt", tmp_path / "lq", "--degradation", "BIx4") == 1
    assert verify(tmp_path / "gt", tmp_path / "lq", "--degradation", "BIx4_replicate") == 0


def test_wrong_scale_is_found(prepared, capsys):
    assert verify(prepared / "GT_x2", prepared / "LR_BIx2", "--scale", "4") == 1
    assert "times 4 is not the GT size" in capsys.readouterr().out


def test_missing_folders_and_empty_ones(tmp_path, capsys):
    assert verify(tmp_path / "nowhere") == 2
    (tmp_path / "empty").mkdir()
    assert verify(tmp_path / "empty") == 1
    assert "no image" in capsys.readouterr().out
