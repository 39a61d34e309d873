"""A run does not change the options that the check has accepted."""

from pathlib import Path

import pytest
import warm
import yaml

from han_arch.opt import read

pytestmark = pytest.mark.usefixtures("basicsr")

COMPARE = """
import copy, sys
from han_arch.cli import main
from han_arch.opt import load

loaded = []

def load_and_copy(*arguments, original=load.load, **settings):
    opt, warnings = original(*arguments, **settings)
    loaded.append((opt, copy.deepcopy(opt)))
    return opt, warnings

load.load = load_and_copy
status = main(sys.argv[1:])
[(after, before)] = loaded
sys.exit(status or (after != before) * 77)
"""


def run_and_compare(folder: Path, *words: str) -> None:
    done = warm.run(["-c", COMPARE, *words], folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_writes_to_the_options(make_run) -> None:
    """Neither training, nor a resume with another schedule, nor `basicsr test` changes the loaded options."""
    folder = make_run("kept")
    run_and_compare(folder, "train", "-opt", "run.yml", "--force_yml", "train:total_iter=1")
    changes = ("train:total_iter=2", "train:scheduler:milestones=[1]")
    run_and_compare(folder, "train", "-opt", "run.yml", "--auto_resume", "--force_yml", *changes)
    opt = read.read(folder / "run.yml")
    opt["datasets"] = {"test_1": opt["datasets"]["val"]}
    opt["path"] = {"pretrain_network_g": "experiments/run/models/net_g_latest.pth", "param_key_g": "params_ema"}
    opt["val"] = {"save_img": True, "suffix": None, "metrics": opt["val"]["metrics"]}
    del opt["train"], opt["logger"]
    (folder / "test.yml").write_text(yaml.safe_dump(opt))
    run_and_compare(folder, "test", "-opt", "test.yml")
    assert len(list((folder / "results/run/visualization").rglob("*.png"))) == 5
