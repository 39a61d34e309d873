"""Check that training in bf16 (with channels_last), or with Winograd's algorithm, reaches the PSNR of plain float32.

The script trains twice with each seed on the demo's data: once in float32, once with --recipe. Each time, it calls
`basicsr train` with demo_HAN_x4.yml. Validation is in float32. After an interruption, run the same command again to
resume. The exit status is 1 if the mean difference in PSNR exceeds --bound.

Examples:
  python scripts/compare_precision.py
  python scripts/compare_precision.py --iterations 200 --seeds 0 1 2 --out precision
  python scripts/compare_precision.py --recipe winograd
"""

import argparse
import csv
import statistics
import sys
from pathlib import Path

from demo import basicsr, prepare_data, shortened

from han_arch import program
from han_arch.evaluation.rows import markdown_table
from han_arch.opt import read

# Name of a recipe -> (options of its training only, options of both trainings). The demo has 24 channels, but
# Winograd's algorithm needs a multiple of 16.
RECIPES: dict[str, tuple[list[str], list[str]]] = {
    "bf16": (["train:precision=bf16", "train:channels_last=true"], []),
    "winograd": (["winograd=true"], ["network_g:num_feat=32"]),
}


def main() -> int:
    """Train and compare; return 0 if the mean difference in PSNR is at most --bound."""
    whole = read.read("demo_HAN_x4")["train"]["total_iter"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("precision"), help="output folder (default: precision)")
    add("--recipe", choices=RECIPES, default="bf16", help="recipe to compare with plain float32 (default: bf16)")
    iterations = f"number of iterations of each training (default: {whole}, as in the demo)"
    add("--iterations", type=int, default=whole, help=iterations)
    seeds = "seeds; the script trains twice with each seed (default: 0 1 2)"
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help=seeds)
    add("--bound", type=float, default=0.1, help="largest allowed mean difference in dB (default: 0.1)")
    args = parser.parse_args()

    out = args.out.resolve()
    if not (out / "datasets" / "demo_test").is_dir():
        prepare_data(out)
    own, of_both = RECIPES[args.recipe]
    rows: list[tuple[float, float]] = []
    for seed in args.seeds:
        plain = train(out, f"fp32_for_{args.recipe}", seed, args.iterations, of_both)
        rows.append((plain, train(out, args.recipe, seed, args.iterations, [*of_both, *own])))
        print(table(args.recipe, args.seeds, rows, args.iterations), flush=True)
    differences = [changed - plain for plain, changed in rows]
    within = abs(statistics.mean(differences)) <= args.bound
    print(f"the mean difference in PSNR is {'' if within else 'NOT '}within {args.bound} dB")
    return 0 if within else 1


def train(out: Path, label: str, seed: int, iterations: int, options: list[str]) -> float:
    """Train one network; return the final PSNR of its EMA weights on the demo's test photos, in dB."""
    name = f"{label}_{iterations}_seed{seed}"
    changes = (
        f"name={name}", f"manual_seed={seed}", *shortened(iterations), f"val:val_freq={iterations}",
        f"logger:save_checkpoint_freq={max(1, iterations // 4)}", "logger:use_tb_logger=false", *options,
    )  # fmt: skip
    basicsr(out, "train", "-opt", "demo_HAN_x4.yml", "--auto_resume", "--force_yml", *changes)
    with (out / "experiments" / name / "val_demo_test.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    if int(last["iter"]) != iterations:
        raise SystemExit(f"the last validation of {name} must be at iteration {iterations}; got {last['iter']}")
    return float(last["psnr"])


def table(recipe: str, seeds: list[int], rows: list[tuple[float, float]], iterations: int) -> str:
    """Return a Markdown table of PSNR: one row per seed, then the mean and the standard deviation."""
    cells = [
        [str(seed), f"{plain:.3f}", f"{changed:.3f}", f"{changed - plain:+.3f}"]
        for seed, (plain, changed) in zip(seeds, rows, strict=False)
    ]
    if len(rows) > 1:
        plain, changed = zip(*rows, strict=True)
        gain = [after - before for before, after in rows]
        means = [f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}" for values in (plain, changed)]
        cells.append(["mean ± s.d.", *means, f"{statistics.mean(gain):+.3f} ± {statistics.stdev(gain):.3f}"])
    heads = ["seed", "fp32", recipe, "difference"]
    return "\n".join([f"\nPSNR in dB after {iterations} iterations\n", *markdown_table(heads, cells)])


if __name__ == "__main__":
    sys.exit(program.run("compare_precision.py", main))
