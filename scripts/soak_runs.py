"""The training runs of soak.py: make a small run, start and resume it, and compare the files of two runs."""

import csv
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from han_arch.files import HALF_WRITTEN
from han_arch.opt import read

EXPERIMENT = Path("experiments") / "soak"
SAVE_EVERY = 5
BATCH = 2


class Failed(Exception):
    """A run did not do what it must do; the text says what."""


@dataclass(frozen=True)
class Setting:
    """What all runs of one comparison share: their length, the number of data workers, and the seed of the data."""

    iterations: int = 100
    workers: int = 0
    seed: int = 0


def make_run(folder: Path, setting: Setting) -> Path:
    """Create a run's folder: noise images, and the demo's options with a smaller network and frequent checkpoints."""
    generator = np.random.default_rng(setting.seed)
    (folder / EXPERIMENT.parent).mkdir(parents=True)
    for side, factor in (("gt", 4), ("lq", 1)):
        (folder / side).mkdir()
        for index in range(5):
            image = generator.integers(0, 256, (20 * factor, 24 * factor, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / side / f"{index}.png"), image)
    opt = read.read("demo_HAN_x4")
    opt["name"] = "soak"
    opt["network_g"].update(num_feat=16, num_group=2, num_block=2)
    for dataset in opt["datasets"].values():
        dataset.update(dataroot_gt="gt", dataroot_lq="lq", io_backend={"type": "disk"})
    opt["datasets"]["train"].update(gt_size=48, batch_size_per_gpu=BATCH, num_worker_per_gpu=setting.workers)
    opt["train"]["total_iter"] = setting.iterations
    opt["train"]["scheduler"].update(periods=[setting.iterations])
    opt["val"]["val_freq"] = 2 * SAVE_EVERY
    opt["logger"].update(
        print_freq=1, save_checkpoint_freq=SAVE_EVERY, keep_last=3, keep_best="psnr", use_tb_logger=True
    )
    (folder / "soak.yml").write_text(yaml.safe_dump(opt), "utf-8")
    return folder


def start(folder: Path, *flags: str, processes: int = 1, file_limit: int | None = None) -> subprocess.Popen[bytes]:
    """Start or resume the training. Append its output to output.txt.

    `file_limit` is the largest size of a file in bytes that the training may write, as on a full disk.
    """
    launch = []
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        flags = ("--launcher", "pytorch", *flags, f"datasets:train:batch_size_per_gpu={BATCH // processes}")
    command = [sys.executable, *launch, "-m", "han_arch", "train", "-opt", "soak.yml", "--auto_resume", *flags]

    def limit() -> None:
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, preexec_fn=limit)


def finish(folder: Path) -> None:
    """Start or resume the training and wait until it ends."""
    check_status(start(folder).wait(), folder)


def output_of(folder: Path) -> str:
    """Return what all starts of a run have printed."""
    path = folder / "output.txt"
    return path.read_text("utf-8", "replace") if path.exists() else ""


def check_status(status: int, folder: Path, wanted: int = 0) -> None:
    """Raise `Failed` with the end of the output if the training ended with another status."""
    if status != wanted:
        raise Failed(f"exit status {status} instead of {wanted} in {folder}:\n{output_of(folder)[-4000:]}")


def half_written(folder: Path) -> list[Path]:
    """Return the half-written checkpoints of a run."""
    return [path for name in ("models", "training_states") for path in (folder / EXPERIMENT / name).glob(HALF_WRITTEN)]


def newest_state(folder: Path) -> int:
    """Return the iteration of the newest training state, or 0 if there is no state."""
    states = (folder / EXPERIMENT).glob("training_states/*.state")
    return max((int(path.stem) for path in states), default=0)


def inode_of_rows(folder: Path) -> int:
    """Return the inode of train.csv, or 0 if there is no such file. A resumed run replaces it after one iteration."""
    path = folder / EXPERIMENT / "train.csv"
    return path.stat().st_ino if path.exists() else 0


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of train.csv."""
    path = folder / EXPERIMENT / "train.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def last_row(folder: Path) -> int:
    """Return the iteration in the last row of train.csv, or 0 if there is no such row."""
    found = rows(folder)
    return int(found[-1]["iter"]) if found and found[-1]["iter"].isdigit() else 0


def compare(folder: Path, reference: Path, *, stopped: bool = False) -> Iterator[str]:
    """Yield one line for each difference between two finished runs.

    Args:
        stopped: a signal stopped the run, which then saved another iteration: compare the files that both runs have.
    """
    experiments = [run / EXPERIMENT for run in (folder, reference)]
    for pattern in ("models/*.pth", "training_states/*.state"):
        names = [sorted(str(path.relative_to(one)) for path in one.glob(pattern)) for one in experiments]
        if stopped and names[0][-1:] == names[1][-1:]:
            names = [sorted({*names[0]} & {*names[1]})] * 2
        if names[0] != names[1]:
            yield f"the runs have different files: {names[0]} and {names[1]}"
            continue
        for name in names[0]:
            contents = [torch.load(one / name, weights_only=True) for one in experiments]
            for content in contents:
                content.pop("options", None)  # the options contain the paths of the folder
            yield from unequal(contents[0], contents[1], name)
    for path in sorted(experiments[1].glob("*.csv")):
        if (experiments[0] / path.name).read_bytes() != path.read_bytes():
            yield path.name
    if half_written(folder):
        yield f"the run still has half-written files: {half_written(folder)}"


def unequal(one: Any, other: Any, where: str) -> Iterator[str]:
    """Compare two nested structures of dicts, lists and tensors; yield the position of each difference."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict) and isinstance(other, dict):
        same = one.keys() == other.keys()
        for key in one.keys() & other.keys():
            yield from unequal(one[key], other[key], f"{where}: {key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        same = len(one) == len(other)
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from unequal(*pair, f"{where}: {index}")
    else:
        same = bool(one == other)
    if not same:
        yield where


def distance(folder: Path, reference: Path) -> float:
    """Return the distance of two runs' weights, relative to the weights: ||a - b|| / ||b|| over the whole network."""
    names = [run / EXPERIMENT / "models" / "net_g_latest.pth" for run in (folder, reference)]
    nets = [torch.load(name, weights_only=True)["params"] for name in names]
    both = [torch.cat([value.double().flatten() for _, value in sorted(net.items())]) for net in nets]
    return float((both[0] - both[1]).norm() / both[1].norm())
