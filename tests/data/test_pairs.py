"""Checks of the data sets in an option file: all faults of names, sizes and images are found before a run starts."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from pictures import make_picture, write_image

from han_arch.data import pairs
from han_arch.data.degradation import degradation_at

Options = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four pairs at x2 in the folders gt and lq of the current folder."""
    monkeypatch.chdir(tmp_path)
    for side in ("gt", "lq"):
        Path(side).mkdir()
    for index, (height, width) in enumerate([(48, 40), (40, 48), (41, 51), (48, 48)]):
        write_pair(f"{index}", make_picture(height, width, index))
    return tmp_path


def write_pair(name: str, photo: np.ndarray, lq: tuple[int, int] | None = None) -> None:
    height, width = lq or (photo.shape[0] // 2, photo.shape[1] // 2)
    write_image(Path(f"gt/{name}.png"), photo)
    write_image(Path(f"lq/{name}.png"), degradation_at("BI", 2).degrade(photo[: height * 2, : width * 2]))


def options(**changes: Any) -> Options:
    base = {"type": "PairedImageDataset", "name": "set", "phase": "val", "scale": 2, "io_backend": {"type": "disk"}}
    return {**base, "dataroot_gt": "gt", "dataroot_lq": "lq", **changes}


def faults(**changes: Any) -> list[str]:
    opt = options(**changes)
    listing = pairs.list_items(opt)
    return [f"{fault.option}: {fault.text}" for fault in listing.faults] + pairs.check_items(listing, opt)


def surplus() -> None:
    Path("gt/Thumbs.db").write_bytes(b"thumbs")
    Path("gt/.DS_Store").write_bytes(b"hidden files are not images")


def surplus_in_both() -> None:
    for side in ("gt", "lq"):
        Path(side, "notes.txt").write_text("notes")


def cut() -> None:
    Path("gt/1.png").write_bytes(Path("gt/1.png").read_bytes()[:-50])


def text_as_image() -> None:
    Path("lq/2.png").write_text("text")


def other_scale() -> None:
    write_image(Path("lq/1.png"), make_picture(10, 12, 1))


def rounded_sides() -> None:
    write_image(Path("lq/2.png"), make_picture(21, 26, 2))


def no_partner() -> None:
    Path("lq/1.png").rename("lq/1x.png")


def other_suffix() -> None:
    Path("lq/1.png").rename("lq/1.PNG")


def template_missing() -> None:
    for path in Path("lq").iterdir():
        path.rename(f"lq/{path.stem}x2.png")


def same_stem() -> None:
    for side in ("gt", "lq"):
        shutil.copy(f"{side}/1.png", f"{side}/1.bmp")


def turned() -> None:
    Path("lq/3.png").unlink()
    write_image(Path("lq/3.png"), degradation_at("BI", 2).degrade(make_picture(48, 48, 3))[::-1])


def empty_folder() -> None:
    shutil.rmtree("lq")
    Path("lq").mkdir()


# A change of the folders -> parts of each fault.
IN_ALL_SETS: dict[Callable[[], None], list[str]] = {
    surplus: ["gt: Thumbs.db.* remove this file"],
    surplus_in_both: ["gt: notes.txt is not an image.* remove", "lq: notes.txt is not an image.* remove"],
    no_partner: ["gt: 1.png has no LQ image 1.png in lq.* 1x.png", "lq: 1x.png has no GT image in gt"],
    other_suffix: ["gt: 1.png has no LQ image 1.png in lq.* 1.PNG", "lq: 1.PNG has no GT image in gt"],
    template_missing: ["0x2.png in lq, 0.png in gt.* filename_tmpl: '{}x2'"],
    empty_folder: ["dataroot_lq: 'lq' contains no images"],
}
IN_VALIDATION: dict[Callable[[], None], list[str]] = {
    cut: ["gt: 1.png: damaged"],
    text_as_image: ["lq: 2.png: not an image"],
    other_scale: ["lq: 1.png: has 12x10 pixels, but x2 needs 24x20, because GT has 48x40"],
    rounded_sides: ["lq: 2.png: has 26x21 pixels, but x2 needs 25x20, because GT has 51x41"],
    same_stem: ["2 images are called 1"],
    turned: ["lq: 3.png: shows the GT image turned"],
}


def compare(found: list[str], wanted: list[str]) -> None:
    assert len(found) == len(wanted), found
    for text, pattern in zip(found, wanted, strict=True):
        assert re.search(pattern, text), text
        assert "\n" not in text


@pytest.mark.parametrize("change", [*IN_ALL_SETS, *IN_VALIDATION], ids=lambda change: change.__name__)
def test_faults_of_a_validation_set(folder: Path, change: Callable[[], None]) -> None:
    assert faults() == []
    change()
    compare(faults(), {**IN_ALL_SETS, **IN_VALIDATION}[change])


@pytest.mark.parametrize("change", IN_ALL_SETS, ids=lambda change: change.__name__)
def test_names_of_a_training_set(folder: Path, change: Callable[[], None]) -> None:
    Path("gt/2.png").unlink()  # its sides are odd
    Path("lq/2.png").unlink()
    assert faults(phase="train", gt_size=32) == []
    change()
    compare(faults(phase="train", gt_size=32), IN_ALL_SETS[change])


def test_all_faults_are_named_at_once(folder: Path) -> None:
    cut()
    text_as_image()
    turned()
    assert len(faults()) == 3


def test_many_faults_are_counted(folder: Path) -> None:
    for index in range(20):
        Path(f"gt/more{index}.png").write_bytes(b"")
    found = faults()
    assert len(found) == pairs.SHOWN + 1
    assert "12 more" in found[-1]


def test_a_training_pair_of_another_scale_or_too_small_for_a_patch(folder: Path) -> None:
    for name in ("2", "1"):
        Path(f"gt/{name}.png").unlink()
        Path(f"lq/{name}.png").unlink()
    small = faults(phase="train", gt_size=48)[0]
    assert "gt: 0.png: 40x48 pixels" in small
    assert "gt_size 48" in small
    assert all("x4 needs" in text for text in faults(phase="train", gt_size=32, scale=4))


@pytest.mark.parametrize(("height", "width", "lq"), [(41, 51, None), (47, 59, (18, 24)), (47, 59, (20, 28))])
def test_cut_gt_images_are_accepted(folder: Path, height: int, width: int, lq: tuple[int, int] | None) -> None:
    """The sides of GT may be cut to multiples of the scale, or of 8 or 12 as in many copies of the benchmark sets."""
    write_pair("cut", make_picture(height, width, 9), lq)
    assert faults() == []


LISTS = {
    "names alone": "0.png\n1.png\n",
    "with sizes": "0.png (48,40,3)\n1.png (40,48,3)\n",
    "sizes before a cut": "0.png (49,40,3)\n1.png (40,50,3)\n",
    "Windows": "\ufeff0.png (48,40,3)\r\n1.png (40,48,3)\r\n",
    "empty lines": "\n0.png\n\n  \n1.png\n\n",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=list(LISTS))
def test_lists_of_names(folder: Path, text: str) -> None:
    Path("list.txt").write_bytes(text.encode())
    opt = options(meta_info_file="list.txt")
    listing = pairs.list_items(opt)
    assert [[ref.name for ref in item] for item in listing.items] == [["0.png", "0.png"], ["1.png", "1.png"]]
    assert listing.faults == pairs.check_items(listing, opt) == []


BAD_LISTS = {
    "0.png\n0_s001.png\n": ["list.txt' lists 0_s001.png, but gt/0_s001.png does not exist"],
    "0.png\n0.png\n": ["2 images are called 0"],
    "\n \n": ["list.txt' contains no images"],
    "0.png\tgood\n": ["lists 0.png\tgood"],
}


@pytest.mark.parametrize(("text", "wanted"), BAD_LISTS.items(), ids=range(len(BAD_LISTS)))
def test_faults_of_lists(folder: Path, text: str, wanted: list[str]) -> None:
    Path("list.txt").write_text(text)
    compare(faults(meta_info_file="list.txt"), wanted)


def test_a_list_that_is_not_text(folder: Path) -> None:
    Path("list.txt").write_bytes(b"\xff\xfe0\x00")
    (text,) = faults(meta_info_file="list.txt")
    assert "'list.txt' is not UTF-8" in text


def test_template_in_the_options(folder: Path) -> None:
    template_missing()
    assert faults(filename_tmpl="{}x2") == []
    assert "filename_tmpl: '{}x2'" in faults(filename_tmpl="{}x4")[0]


def test_single_images(folder: Path) -> None:
    assert faults(type="SingleImageDataset") == []
    text_as_image()
    Path("lq/Thumbs.db").write_text("x")
    found = faults(type="SingleImageDataset")
    assert len([text for text in found if "2.png: not an image" in text]) == 1
    assert any("Thumbs.db is not an image" in text for text in found)


def make_lmdb(side: str, shapes: dict[str, tuple[int, int]], lost: str = "") -> None:
    """Pack a folder as an LMDB; `shapes` are the contents of meta_info.txt."""
    target = Path(f"{side}.lmdb")
    with lmdb.open(str(target)) as environment, environment.begin(write=True) as transaction:
        for path in Path(side).iterdir():
            if path.stem != lost:
                transaction.put(path.stem.encode(), path.read_bytes())
    lines = [f"{key}.png ({height},{width},3) 1\n" for key, (height, width) in shapes.items()]
    (target / "meta_info.txt").write_text("".join(lines))


SHAPES = {"0": (48, 40), "1": (40, 48), "3": (48, 48)}


@pytest.fixture
def packed(folder: Path) -> Path:
    for side, factor in (("gt", 1), ("lq", 2)):
        Path(side, "2.png").unlink()
        make_lmdb(side, {key: (height // factor, width // factor) for key, (height, width) in SHAPES.items()})
    return folder


def of_lmdbs(phase: str) -> list[str]:
    lmdbs = {"dataroot_gt": "gt.lmdb", "dataroot_lq": "lq.lmdb", "io_backend": {"type": "lmdb"}}
    return faults(**lmdbs, phase=phase, gt_size=32)


@pytest.mark.parametrize("phase", ["train", "val"])
def test_lmdbs(packed: Path, phase: str) -> None:
    assert of_lmdbs(phase) == []
    Path("lq.lmdb/lock.mdb").chmod(0o400)
    assert of_lmdbs(phase) == []
    for change, pattern in DAMAGES.items():
        shutil.copytree("gt.lmdb", "good")
        change(Path("gt.lmdb"))
        found = of_lmdbs(phase)
        assert re.search(pattern, "\n".join(found)), (change.__name__, found)
        shutil.rmtree("gt.lmdb")
        shutil.move("good", "gt.lmdb")


@pytest.mark.parametrize("phase", ["train", "val"])
def test_meta_info_chooses_images_of_lmdbs(packed: Path, phase: str) -> None:
    for side in ("gt", "lq"):
        lines = Path(f"{side}.lmdb/meta_info.txt").read_text().splitlines()
        Path(f"{side}.lmdb/meta_info.txt").write_text("\n".join(lines[1:]))
    assert of_lmdbs(phase) == []


def test_a_key_that_an_lmdb_lacks(packed: Path) -> None:
    shutil.rmtree("lq.lmdb")
    make_lmdb("lq", {key: (height // 2, width // 2) for key, (height, width) in SHAPES.items()}, lost="1")
    assert of_lmdbs("train") == ["lq.lmdb: key 1 is in meta_info.txt but not in the LMDB"]


def truncate(path: Path) -> None:
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    (path / "data.mdb").write_bytes(b"")


def crash(path: Path) -> None:
    """Overwrite all pages after the header; LMDB then ends the process that reads them."""
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data[:8192] + b"\xa5" * (len(data) - 8192))


def more_keys(path: Path) -> None:
    (path / "meta_info.txt").write_text((path / "meta_info.txt").read_text() + "7.png (48,48,3) 1\n")


def other_sizes(path: Path) -> None:
    text = (path / "meta_info.txt").read_text()
    (path / "meta_info.txt").write_text(text.replace("(48,40,3)", "(96,80,3)"))


def no_text(path: Path) -> None:
    (path / "meta_info.txt").unlink()


DAMAGES = {
    truncate: "cut short",
    empty: "cut short",
    crash: r"gt.lmdb.*(damaged|basicsr data verify)",
    more_keys: "GT image gt.lmdb: 7 has no LQ image 7 in lq.lmdb",
    other_sizes: "lq.lmdb: 0: has 20x24 pixels, but x2 needs 40x48",
    no_text: "dataroot_gt: 'gt.lmdb' has no meta_info.txt",
}
