"""PSNR of bf16 with channels_last, or of Winograd's algorithm, against plain float32, after equally many iterations on
the demo's data, for some seeds.

Every run is a `basicsr train` of demo_HAN_x4.yml; validation runs in float32. The command may be stopped: the same one
goes on. Exit status 1 when the means of the two differ by more than the bound.

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

from demo import SCALE, TEST, TRAIN, basicsr, copy_photos

from han_arch.opt import read, shipped

# What is compared: its options, and those of both runs. Winograd's algorithm takes channels in sixteens, not 24.
RECIPES: dict[str, tuple[list[str], list[str]]] = {
    "bf16": (["train:precision=bf16", "train:channels_last=true"], []),
    "winograd": (["winograd=true"], ["network_g:num_feat=32"]),
}


def main() -> int:
    """Train, compare; 0 when the mean difference is within the bound."""
    whole = read.read(shipped.find("demo_HAN_x4"))["train"]["total_iter"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("precision"), help="folder for all of it (default: precision)")
    parser.add_argument("--recipe", choices=list(RECIPES), default="bf16", help="against plain float32 (default: bf16)")
    parser.add_argument("--iterations", type=int, default=whole, help=f"of each run (default: the demo's {whole})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--bound", type=float, default=0.1, help="dB (default: 0.1)")
    args = parser.parse_args()

    out = args.out.resolve()
    prepare_data(out)
    own, of_both = RECIPES[args.recipe]
    rows: list[tuple[float, float]] = []
    for seed in args.seeds:
        plain = train(out, f"fp32_for_{args.recipe}", seed, args.iterations, of_both)
        rows.append((plain, train(out, args.recipe, seed, args.iterations, [*of_both, *own])))
        print(table(args.recipe, args.seeds, rows, args.iterations), flush=True)
    differences = [changed - plain for plain, changed in rows]
    within = abs(statistics.mean(differences)) <= args.bound
    print(f"the mean difference is {'' if within else 'NOT '}within {args.bound} dB")
    return 0 if within else 1


def prepare_data(out: Path) -> None:
    """The demo's data sets."""
    if (out / "datasets" / "demo_test").is_dir():
        return
    for part, names in (("train", TRAIN), ("test", TEST)):
        copy_photos(names, out / "photos" / part)
    prepare = ("data", "prepare", "--scale", str(SCALE))
    basicsr(out, *prepare, "--crop-size", "240", "--step", "120", "--only", "lmdb", "-o", "datasets/demo_train",
            "photos/train")  # fmt: skip
    basicsr(out, *prepare, "--benchmark", "-o", "datasets/demo_test", "photos/test")


def train(out: Path, label: str, seed: int, iterations: int, options: list[str]) -> float:
    """PSNR in dB on the demo's test photos, of the averaged network after the last iteration."""
    name = f"{label}_{iterations}_seed{seed}"
    changes = (
        f"name={name}", f"manual_seed={seed}", f"train:total_iter={iterations}",
        f"train:scheduler:periods=[{iterations}]", f"val:val_freq={iterations}",
        f"logger:save_checkpoint_freq={max(1, iterations // 4)}", "logger:use_tb_logger=false", *options,
    )  # fmt: skip
    basicsr(out, "train", "-opt", "demo_HAN_x4.yml", "--auto_resume", "--force_yml", *changes)
    with (out / "experiments" / name / "val_demo_test.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    if int(last["iter"]) != iterations:
        raise SystemExit(f"{name} was measured last at iteration {last['iter']}; wanted {iterations}")
    return float(last["psnr"])


def table(recipe: str, seeds: list[int], rows: list[tuple[float, float]], iterations: int) -> str:
    """Markdown: each seed's PSNR, plain and by the recipe, and means with standard deviations over the seeds."""
    lines = [
        f"\nPSNR in dB after {iterations} iterations\n",
        f"| seed | fp32 | {recipe} | difference |",
        "|---" * 4 + "|",
    ]
    columns = [[row[0] for row in rows], [row[1] for row in rows], [row[1] - row[0] for row in rows]]
    for seed, plain, changed, difference in zip(seeds, *columns, strict=False):
        lines.append(f"| {seed} | {plain:.3f} | {changed:.3f} | {difference:+.3f} |")
    if len(rows) > 1:
        cells = [
            f"{statistics.mean(column):{sign}.3f} ± {statistics.stdev(column):.3f}"
            for column, sign in zip(columns, ("", "", "+"), strict=True)
        ]
        lines.append(f"| mean ± s.d. | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
