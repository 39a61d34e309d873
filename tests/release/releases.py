"""Make a small experiment like one of `basicsr train`, tiny test sets, and their release by `basicsr zoo publish`."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from han_arch import HAN, cli
from han_arch.opt import read
from han_arch.zoo.entry import Entry, from_json

TINY = {"num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4}
ITERATIONS = 6


@dataclass(frozen=True)
class Made:
    """An experiment, the folder with the test sets, the release, and the zoo entry of the release."""

    experiment: Path
    benchmarks: Path
    release: Path
    entry: Entry


def write_benchmarks(folder: Path) -> Path:
    """Write Set5 (2 images), Set14 (1 colour, 1 grey) and B100 (1). Image sides are not multiples of 4."""
    generator = np.random.default_rng(0)
    shapes = {"Set5": [(41, 50, 3), (62, 45, 3)], "Set14": [(45, 54, 3), (47, 49)], "B100": [(50, 43, 3)]}
    for name, sizes in shapes.items():
        (folder / name / "HR").mkdir(parents=True)
        for index, shape in enumerate(sizes):
            image = cv2.GaussianBlur(generator.integers(0, 256, shape).astype(np.uint8), (7, 7), 2)
            cv2.imwrite(str(folder / name / "HR" / f"img_{index}.png"), image)
    return folder


def write_experiment(folder: Path, machine: str = "/home/somebody/secret") -> Path:
    """Write experiments/HAN-S_x4_BSDS400 with a tiny network. Averaged and last weights differ."""
    options: dict[str, Any] = read.read("train_HAN-S_x4")
    options["network_g"].update(TINY)
    options["train"]["total_iter"] = ITERATIONS
    experiment = folder / "experiments" / "HAN-S_x4_BSDS400"
    (experiment / "models").mkdir(parents=True)
    (experiment / "training_states").mkdir()
    (experiment / "training_states" / f"{ITERATIONS}.state").touch()
    header = (
        f"# GENERATE TIME: today\n# CMD:\n# {machine}/bin/basicsr train -opt {machine}/options/train_HAN-S_x4.yml\n\n"
    )
    (experiment / "train_HAN-S_x4.yml").write_text(header + yaml.safe_dump(options))
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(HAN(**{key: value for key, value in options["network_g"].items() if key != "type"}).state_dict())
    content = {"network_g": options["network_g"], "params": states[0], "params_ema": states[1]}
    for name in (f"net_g_{ITERATIONS}", "net_g_latest"):
        torch.save(content, experiment / "models" / f"{name}.pth")
    for stamp, text in (("20260102_000000", "second\n"), ("20260101_000000", f"first {machine}/datasets/x\n")):
        (experiment / f"train_HAN-S_x4_BSDS400_{stamp}.log").write_text(text)
    for name, columns in (("train", ("iter", "epoch", "lr", "l_pix")), ("val_Set5", ("iter", "psnr", "ssim"))):
        with (experiment / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows((iteration, *([0.1] * (len(columns) - 1))) for iteration in (2, 4, ITERATIONS))
    return experiment


def write_release(folder: Path) -> Made:
    """Write an experiment and test sets to a folder, and make their release by `basicsr zoo publish`."""
    experiment, benchmarks = write_experiment(folder), write_benchmarks(folder / "benchmarks")
    release = folder / "han-s-x4"
    assert cli.main(["zoo", "publish", str(experiment), "-o", str(release), "--data", str(benchmarks)]) == 0
    entry = from_json(json.loads((release / "entry.json").read_text()))
    return Made(experiment, benchmarks, release, entry)
