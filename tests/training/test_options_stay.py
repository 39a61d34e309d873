"""The options of a run are the same after training and testing as after loading."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.usefixtures("basicsr")
# Runs a command, then compares its options with a copy from before.
SCRIPT = """
import copy, sys
from han_arch.cli import main
from han_arch.opt import load

loaded, original = [], load.load

def remember(*arguments):
    opt, warnings = original(*arguments)
    loaded.append((opt, copy.deepcopy(opt)))
    return opt, warnings

load.load = remember
assert main(sys.argv[1:]) == 0
((opt, before),) = loaded
assert opt == before, [key for key in before if opt.get(key) != before[key]] or set(opt) - set(before)
print("unchanged")
"""


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], cwd=folder, capture_output=True, text=True, timeout=300, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("unchanged\n")


def test_training_resuming_and_testing_change_no_option(make_run) -> None:
    folder = make_run("run")
    run(folder, "train", "-opt", "run.yml", "--force_yml", "train:total_iter=3")
    run(
        folder,
        "train",
        "-opt",
        "run.yml",
        "--auto_resume",
        "--force_yml",
        "train:total_iter=5",
        "train:optim_g:lr=2e-4",
    )
    opt = yaml.safe_load((folder / "run.yml").read_text())
    for key in ("train", "logger"):
        del opt[key]
    opt["datasets"] = {"test_1": {**opt["datasets"]["val"], "name": "photos"}}
    opt["path"] = {"pretrain_network_g": "experiments/run/models/net_g_latest.pth"}
    opt["val"].update(save_img=True, suffix=None)
    (folder / "test.yml").write_text(yaml.safe_dump(opt))
    run(folder, "test", "-opt", "test.yml")
