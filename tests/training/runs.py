"""Real training runs for the tests: an option file for a small network, synthetic photos, and training processes."""

import csv
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import warm
import yaml

from han_arch.opt import read

TOTAL = 14
SAVE_EVERY = 5


def start(
    folder: Path, *flags: str, ranks: int = 1, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start training with run.yml in a new process; torchrun starts several processes if `ranks` is above 1."""
    launch = []
    if ranks > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        flags = (*flags, "--launcher", "pytorch")
    words = [*launch, "-m", "han_arch", "train", "-opt", "run.yml", *flags]
    return warm.start(words, folder, {**os.environ, **(environment or {})})


def run(folder: Path, *flags: str, ranks: int = 1, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run training to its end; return the exit status and the output."""
    process = start(folder, *flags, ranks=ranks, environment=environment)
    text, _ = process.communicate(timeout=300)
    return process.returncode, text


def run_until(folder: Path, iteration: int, sent: signal.Signals, *flags: str, to_all: bool = False) -> tuple[int, str]:
    """Start training, and send a signal when the iteration is in the log; `to_all` sends it to the workers too."""
    process = start(folder, *flags)
    send = os.killpg if to_all else os.kill
    return finish_after(process, iteration, lambda: send(process.pid, sent))


def finish_after(process: subprocess.Popen[str], iteration: int, act: Callable[[], object]) -> tuple[int, str]:
    """Call `act` when the iteration is in the log; return the exit status and the output of the run."""
    text = ""
    for line in process.stdout:
        text += line
        if f"iter:{iteration:8,d}, lr" in line:
            act()
            break
    rest, _ = process.communicate(timeout=300)
    return process.returncode, text + rest


def make_folder(folder: Path, workers: int = 0, winograd: bool = False) -> Path:
    """Fill a folder with photos and an option file, always the same; with winograd, photos and network are larger."""
    generator = np.random.default_rng(0)
    for side, factor in (("gt", 2), ("lq", 1)):
        (folder / side).mkdir(parents=True)
        for index in range(5):
            height, width = (28, 30) if winograd else (20, 24)
            image = generator.integers(0, 256, (height * factor, width * factor, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / side / f"{index}.png"), image)
    opt = read.read("demo_HAN_x4")
    opt.update(name="run", scale=2)
    opt["network_g"].update(upscale=2, num_feat=8, num_group=2, num_block=1)
    for dataset in opt["datasets"].values():
        dataset.update(dataroot_gt="gt", dataroot_lq="lq", io_backend={"type": "disk"})
    opt["datasets"]["train"].update(gt_size=16, batch_size_per_gpu=2, num_worker_per_gpu=workers)
    if winograd:
        opt["winograd"] = True
        opt["network_g"]["num_feat"] = 16
        opt["datasets"]["train"]["gt_size"] = 48
    opt["train"].update(total_iter=TOTAL, scheduler={"type": "MultiStepLR", "milestones": [6, 11], "gamma": 0.5})
    opt["val"].update(val_freq=3)
    for metric in opt["val"]["metrics"].values():
        metric["crop_border"] = 2
    opt["logger"].update(print_freq=1, save_checkpoint_freq=SAVE_EVERY, use_tb_logger=False, keep_best="psnr")
    (folder / "run.yml").write_text(yaml.safe_dump(opt))
    return folder


def assert_equal(one: object, other: object, where: str = "") -> None:
    """Check that two dicts, lists or tensors are equal in every bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_run(folder: Path, reference: Path) -> None:
    for name in (
        "models/net_g_latest.pth",
        f"models/net_g_{TOTAL}.pth",
        "models/net_g_best.pth",
        f"training_states/{TOTAL}.state",
    ):
        loaded = [torch.load(run / "experiments/run" / name, weights_only=True) for run in (folder, reference)]
        for content in loaded:
            content.pop("options", None)  # the options differ in auto_resume
        assert_equal(loaded[0], loaded[1], name)
    for name in ("train.csv", "val_demo_test.csv"):
        texts = [(run / "experiments/run" / name).read_text() for run in (folder, reference)]
        assert texts[0] == texts[1]


def assert_close_weights(folder: Path, reference: Path, iteration: int | str = "latest") -> None:
    """Check that the averaged weights of two runs are equal except for rounding."""
    path = f"experiments/run/models/net_g_{iteration}.pth"
    weights = [torch.load(one / path, weights_only=True)["params_ema"] for one in (folder, reference)]
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=1e-3, atol=1e-5)


def assert_close_scores(folder: Path, reference: Path, count: int) -> None:
    """Check that two runs have equal validation scores, except for rounding, in `count` validations each."""
    for name in ("psnr", "ssim"):
        scores = [
            [float(row[name]) for row in csv.DictReader((one / "experiments/run/val_demo_test.csv").open())]
            for one in (folder, reference)
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
        assert len(scores[0]) == count
