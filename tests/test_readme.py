"""Run every command and Python block of the README, except those that .ci/run runs through the Makefile."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import warm

README = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.M | re.S)
    for line in block.splitlines()
    if line.strip()
]
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)

# With the real recipe an iteration takes minutes on one core; with these options it takes seconds.
SHORT_NETWORK = ["network_g:num_feat=16", "network_g:num_group=1", "network_g:num_block=1"]
SHORT_TRAINING = [
    *SHORT_NETWORK,
    "train:total_iter=1",
    "datasets:train:batch_size_per_gpu=2",
    "datasets:train:num_worker_per_gpu=0",
    "logger:print_freq=1",
]
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100", "Manga109")


def test_make_and_pip_commands_are_those_of_ci(repository: Path) -> None:
    ci = (repository / ".ci" / "run").read_text()
    makefile = (repository / "Makefile").read_text()
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{re.escape(command)}\b", ci, re.M), f"{command!r} is not in .ci/run"
        elif words[0] == "pip":
            named = [
                word for word in words[2:] if not word.startswith("-") and word not in (".", "torch", "torchvision")
            ]
            for word in named:
                assert word in makefile, f"{word} of {command!r} is not installed by the Makefile"


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_python_block(block: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("basicsr")
def test_basicsr_commands_one_after_the_other(tmp_path: Path) -> None:
    """Run the commands in the order of the README, on small substitutes for DIV2K and Set5."""
    generator = np.random.default_rng(0)
    for folder in ("datasets/DIV2K/DIV2K_train_HR", "datasets/Set5/HR"):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(2):
            photo = cv2.resize(generator.integers(0, 256, (30, 40, 3), np.uint8), (240, 200))
            cv2.imwrite(str(tmp_path / folder / f"{index}.png"), photo)
    cv2.imwrite(str(tmp_path / "photo.jpg"), photo[:40, :50])
    ran = []
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "torchrun":
            words = ["-m", "torch.distributed.run", "--standalone", *words[1:]]
        elif words[0] == "basicsr":
            words = ["-m", "han_arch", *words[1:]]
        else:
            continue
        if "train" in words:
            words += ["--force_yml", *SHORT_TRAINING]
        if "test" in words:
            for name in BENCHMARKS[1:]:
                (tmp_path / "datasets" / name).symlink_to(tmp_path / "datasets" / "Set5")
            words += ["--force_yml", *SHORT_NETWORK]
        done = warm.run(words, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran.append(command)
    assert len(ran) >= 10
    assert (tmp_path / "experiments" / "HAN_x4_DIV2K" / "models" / "net_g_latest.pth").is_file()
    assert cv2.imread(str(tmp_path / "large.png")).shape == (160, 200, 3)
    assert (tmp_path / "my_experiment.yml").is_file()
