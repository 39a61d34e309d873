"""The commands in docs/training.md exist, pass the option check, and lead from photos to a trained network."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from standins import make_files

from han_arch.cli import main
from han_arch.opt import read

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = (REPOSITORY / "docs" / "training.md").read_text("utf-8")
LINES = [line for block in re.findall(r"^```sh\n(.*?)^```", TEXT, re.M | re.S) for line in block.splitlines()]
RUNS = [line for line in LINES if re.search(r"(basicsr|han_arch) (train|test) ", line)]
FINE_TUNING = [line for line in LINES if "mine" in line]


@pytest.fixture
def folder(basicsr: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(line: str) -> list[str]:
    """Return the arguments of `basicsr` in a command line."""
    words = shlex.split(line)
    return words[words.index("han_arch" if "han_arch" in words else "basicsr") + 1 :]


def make_own_data(folder: Path) -> None:
    """Make stand-ins for the data sets of the section on fine-tuning, and for the checkpoints."""
    sets = {
        "train": ("mine/GT_sub_x4.lmdb", "mine/LR_sub_BIx4.lmdb", "lmdb"),
        "val": ("mine_test/GT_x4", "mine_test/LR_BIx4", "disk"),
    }
    make_files(
        {
            "datasets": {
                name: {"dataroot_gt": f"datasets/{gt}", "dataroot_lq": f"datasets/{lq}", "io_backend": {"type": kind}}
                for name, (gt, lq, kind) in sets.items()
            }
        },
        folder,
    )
    for path in ("HAN_BIX4.pt", "RCAN_BIX2.pt", "experiments/HAN_x4_mine/models/net_g_latest.pth"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"params": {"weight": torch.zeros(1)}}, folder / path)


@pytest.mark.parametrize("line", RUNS, ids=[line[:60] for line in RUNS])
def test_documented_runs_pass_the_check(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder contains only files that the commands of docs/data.md and of this section make."""
    for name in ("train_HAN_x4", "test_HAN_x4"):
        make_files(read.read(name), folder)
    make_own_data(folder)
    assert main(["options", "copy", "all", "options/"]) == 0
    assert main(["options", "copy", "train_HAN_x4.yml", "mine.yml"]) == 0
    words = arguments(line)
    for entry in words:  # the data set given by --force_yml must be the user's own
        if entry.startswith("datasets="):
            assert yaml.safe_load(entry.partition("=")[2])["test_1"]["name"] == "mine_test"
    if "--check" not in words:
        words.insert(1, "--check")
    assert main(words) == 0, capsys.readouterr().err


def test_launchers_are_given_what_they_take(folder: Path) -> None:
    launched = [line for line in RUNS if line.startswith("torchrun")]
    assert len(launched) == 2
    from torch.distributed.run import get_args_parser

    for line in launched:
        parsed = get_args_parser().parse_args(shlex.split(line)[1:])
        assert parsed.training_script == "han_arch"
        assert parsed.module


def test_commented_options_are_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The commented options of a shipped file are valid, and their values are the defaults."""
    make_files(read.read("train_HAN_x4"), folder)
    text = read.find("train_HAN_x4").read_text("utf-8")
    names = ("precision", "channels_last", "compile", "accumulate", "grad_clip", "guard")
    written_out = re.sub(rf"^  # ({'|'.join(names)}):", r"  \1:", text, flags=re.M)
    (folder / "own.yml").write_text(written_out)
    assert main(["train", "-opt", "own.yml", "--check"]) == 0, capsys.readouterr().err
    train = yaml.safe_load(capsys.readouterr().out)["train"]
    assert {name: train[name] for name in names} == {
        "precision": "fp32", "channels_last": False, "compile": False, "accumulate": 1, "grad_clip": None,
        "guard": {"factor": 10.0, "action": "skip"},
    }  # fmt: skip


SMALL = ["network_g:num_feat=8", "network_g:num_group=1", "network_g:num_block=1", "network_g:squeeze_factor=4"]
SHORT: dict[str, list[str]] = {
    "train": [*SMALL, "train:total_iter=2", "datasets:train:batch_size_per_gpu=1",
              "datasets:train:num_worker_per_gpu=0", "logger:print_freq=1"],
    "test": SMALL,
}  # fmt: skip


@pytest.mark.slow
def test_fine_tuning_from_photos_to_a_measured_network(folder: Path) -> None:
    from han_arch import HAN

    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        (folder / "photos" / part).mkdir(parents=True)
        photo = cv2.resize(generator.integers(0, 256, (50, 60, 3), np.uint8), (500, 480))
        cv2.imwrite(str(folder / "photos" / part / f"{part}.png"), photo)
    sizes: dict[str, Any] = {"num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4}
    start = HAN(3, 3, **sizes, upscale=4).state_dict()
    torch.save({"params": start}, "HAN_BIX4.pt")
    assert len(FINE_TUNING) == 5
    for line in FINE_TUNING:
        words = arguments(line)
        words += SHORT.get(words[0], [])
        done = subprocess.run([sys.executable, "-m", "han_arch", *words], capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    trained = torch.load("experiments/HAN_x4_mine/models/net_g_latest.pth", weights_only=True)["params"]
    moved = max((trained[key] - start[key]).abs().max().item() for key in start)
    assert 0 < moved < 1e-3  # two steps at a small learning rate, starting at the checkpoint
    assert list((folder / "results/HAN_x4_mine_test").rglob("test_*.png"))


def script(name: str, *flags: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / name), *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_short_soak(workers: int, folder: Path) -> None:
    done = script("soak.py", "--kills", "3", "--iterations", "25", "--workers", str(workers), folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to the bit" in done.stdout
    assert done.stdout.startswith("killed 3 times, ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["twice", "full_disk", "processes"])
def test_short_soak_of_other_kinds(kind: str, folder: Path) -> None:
    iterations = "60" if kind == "twice" else "18"
    done = script("soak.py", "--kind", kind, "--iterations", iterations, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["bf16", "winograd"])
def test_short_comparison_of_precisions(recipe: str, folder: Path) -> None:
    """Two recipes that start at the same weights differ only a little after two steps."""
    pytest.importorskip("skimage")
    flags = ("--recipe", recipe, "--iterations", "2", "--seeds", "0", "1", "--out", "out")
    done = script("compare_precision.py", *flags, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \| ([+-][\d.]+) \|$", done.stdout, re.M)[-2:]
    assert [row[0] for row in rows] == ["0", "1"]
    assert all(float(row[2]) - float(row[1]) == pytest.approx(float(row[3]), abs=1.1e-3) for row in rows)
    assert "± " in done.stdout
    assert "within 0.1 dB" in done.stdout
