"""basicsr data prepare: windows and output, reuse of earlier data sets, and errors."""

import errno
import json
import os
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import SIZES, make_picture, write_image
from PIL import Image

from han_arch.cli import main
from han_arch.data.degradation import get_degradation
from han_arch.data.lmdb_store import LmdbStore
from han_arch.data.prepare import CropGrid
from han_arch.errors import UserError
from han_arch.images.write import encode_png
from han_arch.locks import held

OPTIONS = ["--crop-size", "48", "--step", "24", "--gt-size", "24", "--workers", "1"]


def run(hr_folder, out, *more) -> int:
    return main(["data", "prepare", str(hr_folder), "-o", str(out), *OPTIONS, *more])


def read(path) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return image if image.ndim == 2 else image[:, :, ::-1]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_whole_images_are_cropped_hr_and_their_lr(hr_folder, tmp_path, scale):
    assert run(hr_folder, tmp_path / "out", "--scale", str(scale), "--only", "images", "--gt-size", "12") == 0
    for name, (height, width) in SIZES.items():
        gt = read(tmp_path / "out" / f"GT_x{scale}" / f"{name}.png")
        lq = read(tmp_path / "out" / f"LR_BIx{scale}" / f"{name}.png")
        assert np.array_equal(gt, read(hr_folder / f"{name}.png")[: height // scale * scale, : width // scale * scale])
        assert np.array_equal(lq, get_degradation(f"BIx{scale}").degrade(gt))


def test_windows_do_not_matter_to_complete_images(hr_folder, tmp_path):
    assert run(hr_folder, tmp_path / "out", "--scale", "2", "--only", "images", "--step", "0") == 0
    assert (tmp_path / "out" / "LR_BIx2" / "a.png").is_file()


@pytest.mark.parametrize("scale", [2, 3])
def test_sub_images_lie_at_the_same_places_and_lmdbs_hold_the_same_bytes(hr_folder, tmp_path, scale):
    out = tmp_path / "out"
    assert run(hr_folder, out, "--scale", str(scale)) == 0
    height, width = (side // scale * scale for side in SIZES["a"])
    gt, lq = read(out / f"GT_x{scale}" / "a.png"), read(out / f"LR_BIx{scale}" / "a.png")
    number = 0
    for top in sorted({*range(0, height - 47, 24), height - 48}):
        for left in sorted({*range(0, width - 47, 24), width - 48}):
            number += 1
            gt_sub = read(out / f"GT_sub_x{scale}" / f"a_s{number:03d}.png")
            lq_sub = read(out / f"LR_sub_BIx{scale}" / f"a_s{number:03d}.png")
            assert np.array_equal(gt_sub, gt[top : top + 48, left : left + 48])
            small = 48 // scale
            assert np.array_equal(lq_sub, lq[top // scale :, left // scale :][:small, :small])
    assert not (out / f"GT_sub_x{scale}" / f"a_s{number + 1:03d}.png").exists()
    assert read(out / f"GT_sub_x{scale}" / "c_s001.png").shape[1] == 40 // scale * scale  # shorter than a window
    for folder in (f"GT_sub_x{scale}", f"LR_sub_BIx{scale}"):
        files = {path.stem: path for path in (out / folder).glob("*.png")}
        env = lmdb.open(str(out / f"{folder}.lmdb"), readonly=True, lock=False)
        with env.begin() as transaction:
            packed = {key.decode(): value for key, value in transaction.cursor()}
        env.close()
        assert packed == {name: path.read_bytes() for name, path in files.items()}
        meta = (out / f"{folder}.lmdb" / "meta_info.txt").read_text().splitlines()
        assert meta == [f"{name}.png ({','.join(map(str, read(files[name]).shape))}) 1" for name in sorted(files)]


def test_benchmark_sets_keep_grey_files_and_any_size(hr_folder, tmp_path):
    write_image(hr_folder / "grey.png", make_picture(10, 9, 9)[:, :, 0])
    assert run(hr_folder, tmp_path / "out", "--scale", "3", "--degradation", "BD", "--benchmark") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"GT_x3", "LR_BDx3"}
    grey = read(tmp_path / "out" / "LR_BDx3" / "grey.png")
    assert grey.shape == (3, 3)
    assert np.array_equal(grey, get_degradation("BDx3").degrade(read(hr_folder / "grey.png")[:9, :9]))


def test_grey_becomes_three_channels_on_request(hr_folder, tmp_path):
    grey = make_picture(50, 50, 9)[:, :, 0]
    write_image(hr_folder / "grey.png", grey)
    assert run(hr_folder, tmp_path / "out", "--scale", "2", "--only", "images", "--grey", "rgb") == 0
    assert np.array_equal(read(tmp_path / "out" / "GT_x2" / "grey.png"), np.stack([grey] * 3, axis=2))


def test_finished_results_stay_untouched_and_damaged_ones_are_repaired(hr_folder, tmp_path):
    out = tmp_path / "out"
    assert run(hr_folder, out, "--scale", "2") == 0
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    assert run(hr_folder, out, "--scale", "2") == 0
    assert {path: path.stat().st_mtime_ns for path in before} == {path: stamp for path, (stamp, _) in before.items()}
    lost, cut, packed = out / "GT_x2" / "a.png", out / "LR_sub_BIx2" / "b_s001.png", out / "GT_sub_x2.lmdb" / "data.mdb"
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-20])
    packed.write_bytes(packed.read_bytes()[:9000])
    assert run(hr_folder, out, "--scale", "2") == 0
    assert lost.read_bytes() == before[lost][1]
    assert cut.read_bytes() == before[cut][1]
    env = lmdb.open(str(packed.parent), readonly=True, lock=False)
    assert env.stat()["entries"] == len(list((out / "GT_sub_x2").glob("*.png")))
    env.close()
    assert not list(out.glob("*.partial"))


def test_partial_results_of_an_earlier_run_are_used(hr_folder, tmp_path):
    out = tmp_path / "out"
    assert run(hr_folder, out, "--scale", "2", "--only", "images") == 0
    partial = out / "GT_x2.partial"
    (out / "GT_x2").rename(partial)
    (partial / "b.png").unlink()
    (partial / ".a.png.77.part").write_bytes(b"left by a kill")
    stamps = {path: path.stat().st_mtime_ns for path in partial.glob("*.png")}
    assert run(hr_folder, out, "--scale", "2", "--only", "images") == 0
    for path, stamp in stamps.items():
        assert (out / "GT_x2" / path.name).stat().st_mtime_ns == stamp
    assert sorted(path.name for path in (out / "GT_x2").iterdir()) == [".prepare.json", *(f"{n}.png" for n in "abcde")]


@pytest.mark.parametrize("change", ["settings", "images"])
def test_results_of_other_settings_or_images_are_refused(hr_folder, tmp_path, capsys, change):
    out = tmp_path / "out"
    assert run(hr_folder, out, "--scale", "2", "--only", "sub") == 0
    if change == "images":
        write_image(hr_folder / "a.png", make_picture(70, 101, 99))
        assert run(hr_folder, out, "--scale", "2", "--only", "sub") == 2
    else:
        assert run(hr_folder, out, "--scale", "2", "--only", "sub", "--step", "12") == 2
    error = capsys.readouterr().err
    assert "GT_sub_x2 was made with other settings" in error
    assert ("step was 24, is now 12" if change == "settings" else "hr_images") in error


@pytest.mark.parametrize("name", ["GT_x2", "GT_x2.partial"])
def test_folders_of_others_are_not_touched(hr_folder, tmp_path, capsys, name):
    (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / name / "precious.png").write_bytes(b"mine")
    assert run(hr_folder, tmp_path / "out", "--scale", "2") == 2
    assert "no readable .prepare.json" in capsys.readouterr().err
    assert (tmp_path / "out" / name / "precious.png").read_bytes() == b"mine"


def test_an_lmdb_grows_beyond_its_first_map_and_repairs_a_damaged_part(tmp_path):
    image = encode_png(np.zeros((4, 4, 3), np.uint8))
    images = {f"{number:03d}": image[:-12] + bytes([number]) * 2**20 + image[-12:] for number in range(100)}
    store = LmdbStore(tmp_path / "a.lmdb", {"scale": 2})
    assert store.begin() == set()
    for name, data in images.items():
        store.put({name: data})
    assert not store.path.exists()
    store.finish(images)
    assert store.is_whole(images)
    assert (store.path / "meta_info.txt").read_text().startswith("000.png (4,4,3) 1\n001.png")
    data = store.path / "data.mdb"
    data.write_bytes(data.read_bytes()[:-4096])
    assert not store.is_whole(images)
    assert store.path.exists()  # to ask changes nothing
    assert store.begin() == set()
    assert not store.path.exists()
    store.put(dict(list(images.items())[:3]))
    store.finish(set(list(images)[:3]))
    assert store.present(store.path) == {"000", "001", "002"}


def test_every_unusable_file_is_named_before_work_starts(hr_folder, tmp_path, capsys):
    picture = make_picture(60, 60, 7)
    write_image(hr_folder / "whole.png", picture)
    whole = (hr_folder / "whole.png").read_bytes()
    (hr_folder / "empty.png").write_bytes(b"")
    (hr_folder / "text.png").write_bytes(b"no image at all")
    (hr_folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture).save(hr_folder / "jpeg.jpg")
    jpeg = (hr_folder / "jpeg.jpg").read_bytes()
    (hr_folder / "jpeg.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    write_image(hr_folder / "grey.png", picture[:, :, 0])
    Image.fromarray(np.dstack([picture, picture[:, :, 0]])).save(hr_folder / "alpha.png")
    cv2.imwrite(str(hr_folder / "deep.png"), picture.astype(np.uint16) * 257)
    cv2.imwrite(str(hr_folder / "deepgrey.png"), picture[:, :, 0].astype(np.uint16) * 257)
    write_image(hr_folder / "tiny.png", picture[:20])
    Image.fromarray(picture).save(hr_folder / "a.bmp")
    write_image(hr_folder / "dot.ted.png", picture)
    write_image(hr_folder / "sp ace.png", picture)
    Image.fromarray(picture).convert("CMYK").save(hr_folder / "cmyk.jpg")
    assert run(hr_folder, tmp_path / "out", "--scale", "2") == 2
    error = capsys.readouterr().err
    wanted = {
        "empty.png": "empty file",
        "text.png": "not an image",
        "cut.png": "damaged",
        "jpeg.jpg": "damaged",
        "grey.png": "--grey rgb",
        "alpha.png": "alpha",
        "deep.png": "16 bits",
        "deepgrey.png": "16 bits",
        "tiny.png": "60x20 is smaller than a training patch of 24x24",
        "a.png": "same name as a.bmp",
        "dot.ted.png": "more than one dot",
        "sp ace.png": "a space",
        "cmyk.jpg": "CMYK",
    }
    reasons = dict(line.strip().split(": ", 1) for line in error.splitlines() if line.startswith("  "))
    assert reasons.keys() == wanted.keys()
    for name, reason in wanted.items():
        assert reason in reasons[name]
    assert f"{len(wanted)} of {len(SIZES) + 14} files" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scale", "8"], "crop size 50 is not a positive multiple of scale 8; use 48 or 56"),
        (["--scale", "3", "--gt-size", "25", "--crop-size", "48"], "training patch 25 is not a multiple of scale 3"),
        (["--scale", "2", "--gt-size", "60"], "crop size 50 is smaller than the training patch 60"),
        (["--scale", "2", "--degradation", "BD"], "degradation 'BDx2'; BD exists only as BDx3"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(hr_folder, tmp_path, capsys, arguments, message):
    assert run(hr_folder, tmp_path / "out", "--crop-size", "50", *arguments) == 2
    assert message in capsys.readouterr().err


def test_empty_and_nested_folders_are_refused(tmp_path, capsys):
    (tmp_path / "hr" / "inner").mkdir(parents=True)
    assert run(tmp_path / "hr", tmp_path / "out", "--scale", "2") == 2
    assert "contains the folders inner" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", tmp_path / "out", "--scale", "2") == 2


def test_settings_that_decide_the_content_are_recorded(prepared_template):
    record = json.loads((prepared_template / "LR_sub_BIx2.lmdb" / ".prepare.json").read_text())
    assert {key: record[key] for key in ("scale", "degradation", "crop_size", "step")} == {
        "scale": 2,
        "degradation": "BIx2",
        "crop_size": 48,
        "step": 24,
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_every_pixel_and_divide_by_the_scale(scale, rows, columns):
    height, width = rows * scale, columns * scale
    grid = CropGrid(size=24 * scale, step=12 * scale)
    seen = np.zeros((height, width), int)
    windows = list(grid.windows("0001", height, width).values())
    lr_windows = list(grid.at_lr(scale).windows("0001", rows, columns).values())
    for window, small in zip(windows, lr_windows, strict=True):
        seen[window] += 1
        part = seen[window]
        assert part.shape == (min(height, grid.size), min(width, grid.size))
        assert [edge * scale for at in small for edge in (at.start, at.stop)] == [
            edge for at in window for edge in (at.start, at.stop)
        ]
    assert seen.min() >= 1
    assert windows[-1][0].stop == height
    assert windows[-1][1].stop == width
    assert len(set(map(str, windows))) == len(windows)


def starts(length: int) -> list[int]:
    return [span.start for span in CropGrid().spans(length)]


def test_papers_grid_on_a_div2k_image():
    assert starts(1356) == [0, 240, 480, 720, 876]
    assert starts(2040) == [0, 240, 480, 720, 960, 1200, 1440, 1560]
    assert CropGrid().spans(480) == [slice(0, 480)]
    assert CropGrid().spans(321) == [slice(0, 321)]
    assert list(CropGrid().windows("0001", 480, 720)) == ["0001_s001", "0001_s002"]


@pytest.mark.parametrize(("size", "step"), [(100, 48), (96, 50), (0, 48), (96, -48)])
def test_sizes_that_do_not_divide_name_the_nearest(size, step):
    with pytest.raises(UserError, match=r"not a positive multiple of scale 8; use \d+ or \d+"):
        CropGrid(size, step).check(8)
    CropGrid(96, 48).check(8)


def put_junk(data: Path) -> None:
    """Overwrite all pages after the header; LMDB then ends the process that reads them."""
    content = data.read_bytes()
    data.write_bytes(content[:8192] + b"\xa5" * (len(content) - 8192))


def flip_value(data: Path) -> None:
    """Damage the first image in an LMDB; its pages stay readable."""
    content = bytearray(data.read_bytes())
    content[content.index(b"\x89PNG")] ^= 0xFF
    data.write_bytes(bytes(content))


def cut_file(data: Path) -> None:
    data.write_bytes(data.read_bytes()[:5000])


@pytest.mark.parametrize("state", ["finished", "partial"])
@pytest.mark.parametrize("damage", [put_junk, flip_value, cut_file], ids=lambda damage: damage.__name__)
def test_damaged_lmdbs_are_made_again(hr_folder, tmp_path, caplog, damage, state):
    out = tmp_path / "out"
    command = (hr_folder, out, "--scale", "2", "--only", "lmdb")
    assert run(*command) == 0
    whole = sorted(lmdb_content(out / "GT_sub_x2.lmdb").items())
    damage(out / "GT_sub_x2.lmdb" / "data.mdb")
    if state == "partial":
        (out / "GT_sub_x2.lmdb").rename(out / "GT_sub_x2.lmdb.partial")
    caplog.clear()
    assert run(*command) == 0
    assert sorted(lmdb_content(out / "GT_sub_x2.lmdb").items()) == whole
    assert not list(out.glob("*.partial"))
    if damage is not flip_value:
        (record,) = caplog.records
        assert "data.mdb" in record.message
        assert "GT_sub_x2.lmdb is made again" in record.message


def lmdb_content(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return {bytes(key): bytes(value) for key, value in transaction.cursor()}


def test_only_one_process_makes_a_data_set(hr_folder, tmp_path, capsys):
    out = tmp_path / "out"
    with held(out / "GT_x2", "another run"):
        assert run(hr_folder, out, "--scale", "2", "--only", "images") == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
        assert "GT_x2" in line
        assert str(os.getpid()) in line
        assert not [path for path in out.iterdir() if not path.name.startswith(".")]
        assert run(hr_folder, out, "--scale", "3", "--only", "images") == 0
    assert run(hr_folder, out, "--scale", "2", "--only", "images") == 0


def test_a_full_disk_is_one_line_and_the_next_run_continues(hr_folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    whole = LmdbStore.put

    def refuse(self: LmdbStore, images: dict[str, bytes]) -> None:
        if any(name.startswith("c") for name in images):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(self, images)

    monkeypatch.setattr(LmdbStore, "put", refuse)
    assert run(hr_folder, out, "--scale", "2", "--only", "lmdb") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert str(out) in line
    assert "run the same command again" in line
    assert not list(out.rglob("*.part"))
    monkeypatch.undo()
    assert run(hr_folder, out, "--scale", "2", "--only", "lmdb") == 0
    assert not list(out.glob("*.partial"))
