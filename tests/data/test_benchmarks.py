"""The records of the benchmark sets against the sets themselves, and the faults that they find in folders."""

import shutil

import pytest
from pictures import make_picture, write_image

from han_arch.cli import main
from han_arch.data.benchmarks import BENCHMARKS, compare_with_benchmark
from han_arch.errors import UserError
from han_arch.images.read import list_files, read_image


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
def test_the_sets_match_their_records(shared_data, name):
    notes, faults = compare_with_benchmark(name, shared_data / "benchmarks" / name / "HR")
    assert faults == []
    assert notes[0].startswith(f"{name}: every pixel")


def test_mod_cropped_copies_fit_and_differ_from_the_originals(shared_data, tmp_path):
    for file in list_files(shared_data / "benchmarks" / "Set14" / "HR"):
        image = read_image(file)
        write_image(tmp_path / file.name, image[: image.shape[0] // 12 * 12, : image.shape[1] // 12 * 12].copy())
    notes, faults = compare_with_benchmark("Set14", tmp_path)
    assert faults == []
    assert "pixels differ" in notes[0]


def test_missing_wrong_and_coloured_files_are_found(shared_data, tmp_path, capsys):
    shutil.copytree(shared_data / "benchmarks" / "Set14" / "HR", tmp_path / "HR")
    write_image(tmp_path / "HR" / "img_001.png", make_picture(100, 100, 0))
    grey = read_image(tmp_path / "HR" / "img_003.png")
    write_image(tmp_path / "HR" / "img_003.png", grey[:, :, None].repeat(3, axis=2))
    (tmp_path / "HR" / "img_014.png").unlink()
    assert main(["data", "verify", str(tmp_path / "HR"), "--benchmark", "Set14", "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    for fault in ("13 images; Set14 has 14", "img_001.png: 100x100; Set14 has 500x480", "img_003.png: colour"):
        assert fault in printed


def test_half_size_hr_of_b100_is_found(tmp_path):
    for number in range(100):
        write_image(tmp_path / f"{number:03d}.png", make_picture(160, 240, 0))
    _, faults = compare_with_benchmark("B100", tmp_path)
    assert len(faults) == 100


def test_every_record_names_licence_and_traps():
    assert set(BENCHMARKS) == {"Set5", "Set14", "B100", "Urban100", "Manga109", "DIV2K100"}
    assert all(row.licence and row.source and row.notes for row in BENCHMARKS.values())
    with pytest.raises(UserError, match="benchmark set 'Set6'; did you mean Set"):
        compare_with_benchmark("Set6", None)
