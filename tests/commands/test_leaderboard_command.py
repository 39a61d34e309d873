"""Tests of `basicsr leaderboard`, run as a command."""

import copy
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import warm
import yaml

from han_arch import cli
from han_arch.errors import UserError
from han_arch.evaluation import contestants
from han_arch.opt import read


def basicsr_leaderboard(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return warm.run(["-m", "han_arch", "leaderboard", *words], folder, timeout=240)


def test_bicubic_board_and_a_mistake(
    tmp_path: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "HR").mkdir()
    cv2.imwrite(str(tmp_path / "HR" / "a.png"), np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    options = {"name": "b", "scale": 4, "datasets": {"Set5": {"dataroot_gt": "HR"}},
               "models": {"Bicubic": {"type": "Bicubic"}}}  # fmt: skip
    (tmp_path / "board.yml").write_text(yaml.safe_dump(options))
    monkeypatch.chdir(tmp_path)
    words = ["leaderboard", "-opt", "board.yml", "--force_yml", "datasets:Set5:dataroot_gt=nowhere"]
    assert cli.main(words) == 2
    assert "no folder nowhere" in capsys.readouterr().err
    done = basicsr_leaderboard(tmp_path, "-opt", "board.yml")
    assert done.returncode == 0, done.stderr
    assert "Protocol: BIx4" in done.stdout
    written = {path.name for path in (tmp_path / "results" / "b").iterdir()}
    assert written >= {"results.csv", "per_image.csv", "README.md", "cache"}
    assert (tmp_path / "results" / "b" / "README.md").read_text() in done.stdout

    # Without the optional packages, only the page and the metric are missing. One line is printed for each.
    for name in ("plotly", "pyiqa"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "board.yml").write_text(yaml.safe_dump(options | {"perceptual": ["lpips"]}))
    assert cli.main(["leaderboard", "-opt", "board.yml", "-o", "bare"]) == 0
    metric, page = [line for line in capsys.readouterr().err.splitlines() if line.startswith("basicsr leaderboard: ")]
    assert "lpips" in metric
    assert "pip install pyiqa" in metric
    assert "pip install plotly" in page
    assert {path.name for path in (tmp_path / "bare").iterdir()} == written - {"index.html"}


def test_experiments_give_weights_and_options(tmp_path: Path) -> None:
    folder = tmp_path / "experiments" / "x"
    (folder / "models").mkdir(parents=True)
    (folder / "x.yml").write_text("network_g: {type: HAN, upscale: 4}\n")
    torch.save({}, folder / "models" / "net_g_latest.pth")
    models = {"HAN": {"experiment": str(folder), "variants": ["chop"]}, "Bicubic": {"type": "Bicubic"}}
    before = copy.deepcopy(models)
    resolved = contestants.with_experiments(models, read.read)
    assert models == before
    assert resolved == {
        "HAN": {
            "checkpoint": str(folder / "models" / "net_g_latest.pth"),
            "network_g": {"type": "HAN", "upscale": 4},
            "variants": ["chop"],
        },
        "Bicubic": {"type": "Bicubic"},
    }


def test_all_missing_experiments_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "x.yml").write_text("network_g: {type: HAN}\n")
    models = {name: {"experiment": str(tmp_path / name)} for name in ("absent", "empty", "unfinished")}
    with pytest.raises(UserError) as caught:
        contestants.with_experiments(models, read.read)
    lines = str(caught.value).splitlines()[1:]
    assert ["no experiment" in lines[0], "it has 0" in lines[1], "has not finished" in lines[2]] == [True] * 3


@pytest.mark.slow
def test_bicubic_on_three_sets_takes_less_than_half_a_minute(
    tmp_path: Path, shared_data: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {name: {"dataroot_gt": str(shared_data / "benchmarks" / name / "HR")} for name in ("Set5", "Set14", "B100")}
    options = {"name": "b", "scale": 4, "datasets": sets, "models": {"Bicubic": {"type": "Bicubic"}}}
    (tmp_path / "board.yml").write_text(yaml.safe_dump(options))
    # Measure the processor time of one thread, because other load on the machine does not change it.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = basicsr_leaderboard(tmp_path, "-opt", "board.yml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30
    shutil.rmtree(tmp_path / "results")
