"""Train the six networks of the ablation with several seeds each, measure them, and write the tables.

Run it in a folder with datasets/BSDS400 (GT_sub_x4.lmdb, LR_sub_BIx4.lmdb), datasets/Set5, datasets/Set14 and
datasets/B100. After an interruption, run the same command again: it skips finished runs and resumes the others.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import ablation_tables
from ablation_tables import TrainedRun
from tqdm import tqdm

from han_arch import compat
from han_arch.errors import UserError
from han_arch.evaluation import board, contestants, run
from han_arch.evaluation.measurement import ScoreCache
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import find_sets
from han_arch.opt import read
from han_arch.training import start
from han_arch.zoo.read import read_raw

SCALE = 4
EXAMPLES = f"""examples:
  python scripts/ablation.py --out docs/{ablation_tables.FOLDER}
  python scripts/ablation.py --out docs/{ablation_tables.FOLDER} --jobs 2 --threads 1
  python scripts/ablation.py --out trial --seeds 0 --iterations 20"""


def experiment(option_file: str, seed: int, iterations: int | None) -> Path:
    """Return the folder of a run; a trial with other iterations has its own."""
    name = read.read(option_file)["name"]
    return Path("experiments") / f"{name}_seed{seed}{f'_{iterations}iter' if iterations else ''}"


def wanted_iterations(option_file: str, iterations: int | None) -> int:
    """Return the number of iterations of a run."""
    return iterations or int(read.read(option_file)["train"]["total_iter"])


def is_finished(option_file: str, seed: int, iterations: int | None) -> bool:
    """Whether a run has its last training state and its last weights."""
    folder = experiment(option_file, seed, iterations)
    last = folder / "training_states" / f"{wanted_iterations(option_file, iterations)}.state"
    return last.is_file() and (folder / "models" / "net_g_latest.pth").is_file()


def train(option_file: str, seed: int, iterations: int | None, threads: int) -> int:
    """Train one network in a process of its own, with its output in a file, and return the exit status."""
    folder = experiment(option_file, seed, iterations)
    overrides = [f"name={folder.name}", f"manual_seed={seed}", "num_gpu=0", "logger:use_tb_logger=false"]
    if iterations:
        overrides += [f"train:total_iter={iterations}", f"train:scheduler:periods=[{iterations}]",
                      f"val:val_freq={iterations}"]  # fmt: skip
    command = [sys.executable, "-m", "han_arch", "train", "-opt", option_file, "--auto_resume", "--force_yml"]
    output = Path("experiments") / f"{folder.name}.out"
    output.parent.mkdir(exist_ok=True)
    with output.open("a") as file:
        return subprocess.run(
            [*command, *overrides], stdout=file, stderr=subprocess.STDOUT, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ).returncode  # fmt: skip


def train_all(runs: list[tuple[str, int]], iterations: int | None, jobs: int, threads: int) -> list[str]:
    """Train unfinished runs, several at a time; return a line for each failed run."""
    missing = [(file, seed) for file, seed in runs if not is_finished(file, seed, iterations)]
    failed = []
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), initial=len(runs) - len(missing), desc="train") as bar:
        started = {pool.submit(train, file, seed, iterations, threads): (file, seed) for file, seed in missing}
        for done in as_completed(started):
            file, seed = started[done]
            if done.result():
                failed.append(f"{file}, seed {seed}: exit status {done.result()}, see "
                              f"{experiment(file, seed, iterations)}.out")  # fmt: skip
            bar.update()
    return failed


def describe(model: str, seed: int, iterations: int | None) -> TrainedRun:
    """Return a finished run with alpha and beta of its averaged weights."""
    file = ablation_tables.MODELS[model]
    tensors = read_raw(experiment(file, seed, iterations) / "models" / "net_g_latest.pth").tensors
    gates = [float(tensors[key]) if key in tensors else None for key in ("lam.alpha", "csam.beta")]
    return TrainedRun(model, seed, wanted_iterations(file, iterations), gates[0], gates[1])


def evaluate(runs: list[TrainedRun], data: Path, iterations: int | None, cache: Path) -> list[run.SetResult]:
    """Measure runs by the papers' protocol with the leaderboard and its cache."""
    models: dict[str, Any] = {
        run.label: {
            "experiment": str(experiment(ablation_tables.MODELS[run.model], run.seed, iterations)),
            "published": "",
        }
        for run in runs
    }
    models = contestants.with_experiments(models, read.read)
    sets = find_sets(data, Protocol("BI", SCALE))
    folders = {found.name: {"dataroot_gt": str(found.images[0].gt.parent)} for found in sets}
    checked = board.load(
        {"name": "ablation", "scale": SCALE, "num_gpu": 0, "datasets": folders, "models": models, "variants": ["full"],
         "cost": {"lr_size": 32, "repeat": 1}}
    )  # fmt: skip
    return run.run(checked, ScoreCache(cache))


def main() -> int:
    """Train, measure, write; return 1 if a run failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for runs.csv, images.csv and README.md")
    parser.add_argument("--data", type=Path, default=Path("datasets"), help="folder with Set5, Set14, B100")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--models", nargs="+", choices=ablation_tables.MODELS, default=list(ablation_tables.MODELS), metavar="MODEL"
    )
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each training (default: 1)")
    parser.add_argument("--iterations", type=int, help="for a trial: fewer than in the option files")
    args = parser.parse_args()
    compat.require_basicsr()
    start.load_plugins()
    # Seed by seed, so that an unfinished ablation compares all networks.
    order = [(model, seed) for seed in args.seeds for model in args.models]
    failed = train_all([(ablation_tables.MODELS[m], s) for m, s in order], args.iterations, args.jobs, args.threads)
    finished = [(m, s) for m, s in order if is_finished(ablation_tables.MODELS[m], s, args.iterations)]
    sys.stderr.write("".join(f"FAILED {line}\n" for line in failed))
    if not finished:
        return 1
    runs = [describe(model, seed, args.iterations) for model, seed in finished]
    results = evaluate(runs, args.data, args.iterations, Path("experiments") / "ablation_cache")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, text in zip(
        (ablation_tables.RUNS, ablation_tables.IMAGES), ablation_tables.tables(runs, results), strict=True
    ):
        (args.out / name).write_text(text, "utf-8")
    table = ablation_tables.markdown(args.out)
    (args.out / "README.md").write_text(f"# Ablation\n\n{table}", "utf-8")
    print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
