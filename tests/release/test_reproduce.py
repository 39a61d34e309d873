"""Tests of `basicsr zoo reproduce`: the printed commands make a release, and training is deterministic to the bit."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from releases import TINY, Made, write_benchmarks

from han_arch import cli
from han_arch.opt import read
from han_arch.release import reproduce
from han_arch.release.reproduce import Step
from han_arch.zoo import entry as table
from han_arch.zoo.entry import Entry

SMALL_NETWORK = [f"network_g:{key}={value}" for key, value in TINY.items()]


@pytest.fixture
def x4(made: Made, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The zoo entry han-s-x4. The table of the zoo also has han-s-x2."""
    x2 = replace(made.entry, name="han-s-x2", recipe="train_HAN-S_x2.yml")
    others = tuple(entry for entry in table.ENTRIES if entry.name not in (x2.name, made.entry.name))
    monkeypatch.setattr(table, "ENTRIES", (*others, made.entry, x2))
    return made.entry


def write_photos(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(1)
    for index in range(count):
        image = cv2.resize(generator.integers(0, 256, (25, 30, 3), dtype=np.uint8), (300, 250))
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def printed_commands(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("basicsr ")]


@pytest.mark.usefixtures("x4")
def test_commands_of_a_warm_started_network_train_its_start_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["zoo", "reproduce", "han-s-x2", "--photos", "bsds400"]) == 0
    commands = printed_commands(capsys.readouterr().out)
    assert [words[2] for words in commands if words[0] == "train"] == ["train_HAN-S_x4", "train_HAN-S_x2"]
    prepared = [words[6] for words in commands if words[:5] == ["data", "prepare", "bsds400", "-o", "datasets/BSDS400"]]
    assert prepared == ["4", "2"]
    assert [words[6] for words in commands if words[4:5] == ["datasets/Set5"]] == ["4", "2"]
    assert commands[-2][:5] == ["zoo", "publish", "experiments/HAN-S_x2_BSDS400", "-o", "release/han-s-x2"]
    assert cli.main(["zoo", "reproduce", "han-authors-bix4"]) == 2
    assert "has no recipe" in capsys.readouterr().err


def test_a_recipe_of_two_stages_trains_both(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "ENTRIES", (replace(made.entry, recipe="train_HAN-S_x4_stage2.yml"),))
    assert cli.main(["zoo", "reproduce", "han-s-x4"]) == 0
    text = capsys.readouterr().out
    commands = printed_commands(text)
    assert [words[2] for words in commands if words[0] == "train"] == ["train_HAN-S_x4", "train_HAN-S_x4_stage2"]
    second = read.read("train_HAN-S_x4_stage2.yml")
    assert second["path"]["pretrain_network_g"].startswith("experiments/HAN-S_x4_BSDS400/")
    assert commands[-2][2] == f"experiments/{second['name']}"
    assert "20,000 iterations, seed 0, from random weights" in text


@pytest.mark.usefixtures("x4")
def test_run_runs_what_is_printed_and_stops_at_the_first_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[str, ...]] = []

    def fake(step: Step) -> int:
        ran.append(step.words)
        return 3 if step.words[0] == "train" else 0

    monkeypatch.setattr(reproduce, "run_apart", fake)
    assert cli.main(["zoo", "reproduce", "han-s-x4", "--run"]) == 3
    assert [words[:2] for words in ran] == [("data", "prepare")] * 4 + [("train", "-opt")]
    assert [list(words) for words in ran] == printed_commands(capsys.readouterr().out)


def prepare_data(folder: Path, photos: Path) -> None:
    """Prepare photos as datasets/BSDS400 and datasets/Set5."""
    common = ["data", "prepare", str(photos), "--scale", "4", "--workers", "1", "-o"]
    for words in (
        [f"{folder}/datasets/BSDS400", "--only", "lmdb", "--crop-size", "240", "--step", "120"],
        [f"{folder}/datasets/Set5", "--benchmark"],
    ):
        assert cli.main([*common, *words]) == 0


def run_apart(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "han_arch", *words], cwd=folder, capture_output=True, text=True, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"


@pytest.mark.usefixtures("x4")
def test_the_printed_commands_make_a_verified_release_from_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the printed commands, but with a smaller network, fewer iterations and fewer photos."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    write_benchmarks(tmp_path / "benchmarks")
    assert cli.main(["zoo", "reproduce", "han-s-x4"]) == 0
    commands = printed_commands(capsys.readouterr().out)
    for words in commands[:-1]:
        if words[0] == "train":
            short = ["train:total_iter=3", "val:val_freq=3", "datasets:train:batch_size_per_gpu=2",
                     "datasets:train:num_worker_per_gpu=0", "logger:print_freq=1", "num_gpu=0"]  # fmt: skip
            run_apart(tmp_path, *words, "--force_yml", *SMALL_NETWORK, *short)
        else:
            assert cli.main([*words, *(["--workers", "1"] if words[0] == "data" else [])]) == 0, words
    capsys.readouterr()
    assert cli.main(["zoo", "verify", "release/han-s-x4"]) == 0
    assert cli.main(commands[-1]) == 1  # after three iterations the scores are worse than those of the entry
    assert "WRONG: Set5" in capsys.readouterr().out


@pytest.mark.usefixtures("basicsr")
@pytest.mark.parametrize(
    ("iterations", "settings"),
    [
        (20, [*SMALL_NETWORK, "datasets:train:batch_size_per_gpu=2", "datasets:train:num_worker_per_gpu=0"]),
        pytest.param(200, [], marks=pytest.mark.slow),  # HAN-S without changes
    ],
)
def test_two_runs_from_one_seed_have_the_same_losses_to_the_bit(
    iterations: int, settings: list[str], tmp_path: Path
) -> None:
    prepare_data(tmp_path, write_photos(tmp_path / "photos", 6))
    force = ["--force_yml", *settings, f"train:total_iter={iterations}", f"val:val_freq={iterations}",
             "logger:print_freq=1", "logger:use_tb_logger=false", "num_gpu=0"]  # fmt: skip
    tables = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "datasets").symlink_to(tmp_path / "datasets")
        run_apart(tmp_path / name, "train", "-opt", "train_HAN-S_x4", *force)
        experiment = tmp_path / name / "experiments" / "HAN-S_x4_BSDS400"
        tables.append((experiment / "train.csv").read_text() + (experiment / "val_Set5.csv").read_text())
    assert tables[0] == tables[1]  # numbers are written with all digits, so equal text means equal bits
    losses = [line.split(",")[3] for line in tables[0].splitlines()[1 : iterations + 1]]
    assert len(set(losses)) > iterations // 2
