"""Kill a training run many times, resume it each time, and compare its final files with those of an uninterrupted run.

Every third time, the run is killed while it writes a checkpoint; otherwise, it is killed at a random iteration.
--seed determines the training data and the random choices; the exact times of the kills also depend on the machine.
The exit status is 1 if a bit differs, or if the run was killed fewer than --kills times.

Examples:
  python scripts/soak.py
  python scripts/soak.py --kills 20 --iterations 120 --workers 2
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from tqdm import tqdm

from han_arch import program
from han_arch.files import HALF_WRITTEN
from han_arch.opt import read

EXPERIMENT = Path("experiments") / "soak"
SAVE_EVERY = 5
LONGEST_START = 120  # seconds after which a run is killed in any case


@dataclass
class Kills:
    """The number of times that the run was killed, and the iterations at which it was resumed."""

    count: int = 0
    inside_a_save: int = 0  # kills that left a half-written file
    resumed_at: list[int] = field(default_factory=list)  # iteration of the training state after each kill


def main() -> int:
    """Run the soak test; return 0 if both runs are equal and one was killed --kills times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--kills", type=int, default=20, help="number of times that the run is killed (default: 20)")
    add("--iterations", type=int, default=100, help="number of training iterations (default: 100)")
    add("--workers", type=int, default=0, help="number of processes that load the training data (default: 0)")
    add("--seed", type=int, default=0, help="seed of the data and of the times at which the run is killed (default: 0)")
    add("--out", type=Path, help="empty or new folder for both runs (default: a temporary folder)")
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        if any(args.out.iterdir()):
            parser.error(f"--out must be an empty or new folder; {args.out} is not empty")
        return soak(args.out.resolve(), args)
    with tempfile.TemporaryDirectory(prefix="soak_") as folder:
        return soak(Path(folder), args)


def soak(folder: Path, args: argparse.Namespace) -> int:
    """Train both runs, compare them and print the result; return the exit status."""
    began = time.monotonic()
    left_alone, killed = (make_run(folder / name, args) for name in ("left_alone", "killed"))
    finish(left_alone)
    kills = Kills()
    random_moments = random.Random(args.seed)
    for _ in tqdm(range(args.kills), desc="kills", unit="kill", disable=None):
        kill_once(killed, random_moments, kills, args)
    kills.resumed_at.append(newest_state(killed))
    finish(killed)
    differences = list(compare(killed, left_alone))
    print(
        f"killed {kills.count} times, {kills.inside_a_save} of them while a file was written; {args.workers} workers, "
        f"{args.iterations} iterations; resumed at iterations {', '.join(map(str, kills.resumed_at))}"
    )
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, {time.monotonic() - began:.0f} s")
    print("".join(f"DIFFERENT: {difference}\n" for difference in differences), end="")
    if kills.count < args.kills:
        print(f"FAILED: the run was killed only {kills.count} times before it finished; increase --iterations")
    print(
        "FAILED: the two runs differ"
        if differences
        else "PASSED: all checkpoints and CSV files of both runs are equal to the bit"
    )
    return 1 if differences or kills.count < args.kills else 0


def make_run(folder: Path, args: argparse.Namespace) -> Path:
    """Create a run's folder: noise images, and the demo's options with a smaller network and frequent checkpoints."""
    generator = np.random.default_rng(args.seed)
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
    opt["datasets"]["train"].update(gt_size=48, batch_size_per_gpu=2, num_worker_per_gpu=args.workers)
    opt["train"]["total_iter"] = args.iterations
    opt["train"]["scheduler"].update(periods=[args.iterations])
    opt["val"]["val_freq"] = 2 * SAVE_EVERY
    opt["logger"].update(
        print_freq=1, save_checkpoint_freq=SAVE_EVERY, keep_last=3, keep_best="psnr", use_tb_logger=True
    )
    (folder / "soak.yml").write_text(yaml.safe_dump(opt), "utf-8")
    return folder


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start or resume the training. Append its output to output.txt."""
    command = [sys.executable, "-m", "han_arch", "train", "-opt", "soak.yml", "--auto_resume"]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)


def finish(folder: Path) -> None:
    """Start or resume the training and wait until it ends."""
    check_status(start(folder).wait(), folder)


def check_status(status: int, folder: Path) -> None:
    """If the training failed, print the end of its output and exit."""
    if status != 0:
        sys.exit(f"the training in {folder} failed:\n{(folder / 'output.txt').read_text('utf-8')[-4000:]}")


def kill_once(folder: Path, moments: random.Random, kills: Kills, args: argparse.Namespace) -> None:
    """Resume the training. Kill it after a random number of iterations, or while it writes a checkpoint."""
    left = args.kills - kills.count
    aim_at_save = kills.count % 3 == 2
    step = max(1, (args.iterations - newest_state(folder)) // (left + 1))
    target = newest_state(folder) + moments.randint(1, max(1, min(2 * step, 2 * SAVE_EVERY)))
    pause = moments.uniform(0, 0.05)
    kills.resumed_at.append(newest_state(folder))
    parts_before, rows_before = set(half_written(folder)), inode_of_rows(folder)
    process = start(folder)
    deadline = time.monotonic() + LONGEST_START
    while process.poll() is None and time.monotonic() < deadline:
        if aim_at_save:
            if set(half_written(folder)) - parts_before:
                break
        elif inode_of_rows(folder) != rows_before and last_row(folder) >= target:
            time.sleep(pause)
            break
        time.sleep(0.0002 if aim_at_save else 0.005)
    if process.poll() is not None:
        return check_status(process.returncode, folder)
    process.kill()
    process.wait()
    kills.count += 1
    kills.inside_a_save += bool(set(half_written(folder)) - parts_before)


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


def last_row(folder: Path) -> int:
    """Return the iteration in the last row of train.csv, or 0 if there is no such row."""
    path = folder / EXPERIMENT / "train.csv"
    if not path.exists():
        return 0
    with path.open(newline="") as file:
        rows = [row["iter"] for row in csv.DictReader(file)]
    return int(rows[-1]) if rows and rows[-1].isdigit() else 0


def compare(folder: Path, reference: Path) -> Iterator[str]:
    """Yield one line for each difference between two finished runs."""
    experiments = [run / EXPERIMENT for run in (folder, reference)]
    for pattern in ("models/*.pth", "training_states/*.state"):
        names = [sorted(str(path.relative_to(one)) for path in one.glob(pattern)) for one in experiments]
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
        yield f"the killed run still has half-written files: {half_written(folder)}"


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


if __name__ == "__main__":
    sys.exit(program.run("soak.py", main))
