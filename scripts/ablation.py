"""Train each of the six networks of the ablation with several seeds, measure them, and write the tables.

The current folder must contain datasets/BSDS400 (with GT_sub_x4.lmdb and LR_sub_BIx4.lmdb), datasets/Set5,
datasets/Set14 and datasets/B100. After an interruption, run the same command again: it skips finished runs and resumes
the others.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import ablation_tables
from ablation_tables import TrainedRun
from tqdm import tqdm

from han_arch import compat, locks, program
from han_arch.evaluation import board, contestants, outputs
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import SetResult, list_failures
from han_arch.evaluation.run import run as measure
from han_arch.evaluation.score import ScoreCache
from han_arch.evaluation.sets import find_sets
from han_arch.opt import read
from han_arch.training import start
from han_arch.zoo.read import read_raw

SCALE = 4
FILES = (ablation_tables.RUNS, ablation_tables.IMAGES, "README.md")
EXAMPLES = f"""examples:
  python scripts/ablation.py --out docs/{ablation_tables.FOLDER}
  python scripts/ablation.py --out docs/{ablation_tables.FOLDER} --jobs 2 --threads 1
  python scripts/ablation.py --out trial --seeds 0 --iterations 20"""


@dataclass(frozen=True)
class Run:
    """The training of one network with one seed."""

    model: str  # a key of `ablation_tables.MODELS`
    seed: int
    trial: int | None  # number of iterations of a short trial; None for a full training

    @property
    def option_file(self) -> str:
        """Name of the option file."""
        return ablation_tables.MODELS[self.model]

    @property
    def folder(self) -> Path:
        """Experiment folder of the run. A trial run and a full run have different folders."""
        trial = f"_{self.trial}iter" if self.trial else ""
        return Path("experiments") / f"{self.option_file}_seed{self.seed}{trial}"

    @property
    def iterations(self) -> int:
        """Number of training iterations."""
        return self.trial or int(read.read(self.option_file)["train"]["total_iter"])

    @property
    def is_finished(self) -> bool:
        """Whether the run has saved its last training state and its last weights."""
        files = (f"training_states/{self.iterations}.state", "models/net_g_latest.pth")
        return all((self.folder / file).is_file() for file in files)

    def train(self, threads: int) -> int:
        """Train in a new process that appends its output to FOLDER.out. Return the exit status."""
        overrides = [f"name={self.folder.name}", f"manual_seed={self.seed}", "num_gpu=0", "logger:use_tb_logger=false"]
        if self.trial:
            overrides += [f"train:total_iter={self.trial}", f"train:scheduler:periods=[{self.trial}]",
                          f"val:val_freq={self.trial}"]  # fmt: skip
        command = [sys.executable, "-m", "han_arch", "train", "-opt", self.option_file, "--auto_resume", "--force_yml"]
        self.folder.parent.mkdir(exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.out").open("a") as file:
            return subprocess.run(
                [*command, *overrides], stdout=file, stderr=subprocess.STDOUT, check=False,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            ).returncode  # fmt: skip

    def trained(self) -> TrainedRun:
        """Describe the finished run. alpha (of LAM) and beta (of CSAM) are read from the EMA weights."""
        tensors = read_raw(self.folder / "models" / "net_g_latest.pth").tensors
        gates = [float(tensors[key]) if key in tensors else None for key in ("lam.alpha", "csam.beta")]
        return TrainedRun(self.model, self.seed, self.iterations, *gates)


def train_all(runs: list[Run], jobs: int, threads: int) -> list[str]:
    """Train all unfinished runs, `jobs` at the same time. Return one message for each failed run."""
    missing = [run for run in runs if not run.is_finished]
    failed = []
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), initial=len(runs) - len(missing), desc="train") as bar:
        started = {pool.submit(run.train, threads): run for run in missing}
        for done in as_completed(started):
            run = started[done]
            if status := done.result():
                failed.append(f"{run.option_file}, seed {run.seed}: exit status {status}; see {run.folder}.out")
            bar.update()
    return failed


def evaluate(runs: dict[str, Run], data: Path) -> list[SetResult]:
    """Measure finished runs by the papers' protocol. Scores of earlier calls are read from a cache.

    `runs` maps a label to a run. `data` is the folder with Set5, Set14 and B100.
    """
    models = {label: {"experiment": str(run.folder), "published": ""} for label, run in runs.items()}
    sets = find_sets(data, Protocol("BI", SCALE))
    checked = board.load(
        {
            "name": "ablation",
            "scale": SCALE,
            "num_gpu": 0,
            "datasets": {found.name: {"dataroot_gt": str(found.images[0].gt.parent)} for found in sets},
            "models": contestants.with_experiments(models, read.read),
            "variants": ["full"],
            "cost": {"lr_size": 32, "repeat": 1},
        }
    )
    return measure(checked, ScoreCache(Path("experiments") / "ablation_cache"))


def main() -> int:
    """Train and measure the networks and write the tables; return 1 if a run or an image failed.

    Raises:
        UserError: another process works on the ablation, or the tables would replace a file of the user.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for the tables runs.csv, images.csv and README.md")
    add("--data", type=Path, default=Path("datasets"), help="folder with Set5, Set14 and B100 (default: datasets)")
    seeds = "random seeds; each network is trained once with each seed (default: 0 1 2)"
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help=seeds)
    known = list(ablation_tables.MODELS)
    models = "names of the networks to train (default: all)"
    add("--models", nargs="+", choices=known, default=known, metavar="MODEL", help=models)
    add("--jobs", type=int, default=1, help="number of training runs at the same time (default: 1)")
    add("--threads", type=int, default=1, help="number of CPU threads per training run (default: 1)")
    iterations = "make a short trial with this number of iterations (default: the number in the option files)"
    add("--iterations", type=int, help=iterations)
    args = parser.parse_args()
    compat.require_basicsr()
    start.load_plugins()
    with locks.held(Path("experiments") / "ablation_cache", "the ablation"):
        outputs.check(args.out, FILES)  # training takes hours
        return make_tables(args)


def make_tables(args: argparse.Namespace) -> int:
    """Train and measure the networks and write the tables. `args` and the result are those of `main`."""
    # Seeds are the outer loop, so that an unfinished ablation has results of all networks for one seed.
    runs = [Run(model, seed, args.iterations) for seed in args.seeds for model in args.models]
    failed = train_all(runs, args.jobs, args.threads)
    sys.stderr.write("".join(f"FAILED {line}\n" for line in failed))
    finished = [run for run in runs if run.is_finished]
    if not finished:
        return 1
    trained = [run.trained() for run in finished]
    results = evaluate({one.label: run for one, run in zip(trained, finished, strict=True)}, args.data)
    args.out.mkdir(parents=True, exist_ok=True)
    outputs.write(args.out, dict(zip(FILES[:2], ablation_tables.tables(trained, results), strict=True)))
    table = ablation_tables.markdown(args.out)
    outputs.write(args.out, {FILES[-1]: f"# Ablation\n\n{table}"})
    print(table)
    failures = list_failures(results)
    sys.stderr.write("".join(f"FAILED {line}\n" for line in failures))
    return 1 if failed or failures else 0


if __name__ == "__main__":
    sys.exit(program.run("ablation.py", main))
