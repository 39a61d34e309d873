"""The summary of a run, from the CSV files of the experiment: a block for the log and a picture of the curves."""

import csv
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summarise(folder: Path, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the best and the last value of every validation metric, and the paths of weights, numbers and curves.

    Args:
        folder: the experiment.
        metrics: the option `val: metrics`; a metric with `better: lower` has its lowest value as the best.
    """
    lines = ["Summary"]
    for path in sorted(folder.glob("val_*.csv")):
        rows = _rows(path)
        for metric in (column for column in rows[0] if column != "iter") if rows else ():
            which, choose = ("lowest", min) if metrics.get(metric, {}).get("better") == "lower" else ("highest", max)
            best = choose(rows, key=lambda row: row[metric])
            lines.append(
                f"  {path.stem.removeprefix('val_')} {metric}: {which} {best[metric]:.4f} at {best['iter']:.0f}, "
                f"last {rows[-1][metric]:.4f} at {rows[-1]['iter']:.0f}"
            )
    weights = [name for name in ("net_g_latest.pth", "net_g_best.pth") if (folder / "models" / name).exists()]
    lines += [f"  weights: {folder / 'models' / name}" for name in weights]
    lines.append(f"  numbers: {folder}/*.csv")
    if importlib.util.find_spec("matplotlib") is None:
        lines.append("  curves: not drawn, because matplotlib is not installed")
    else:
        lines.append(f"  curves: {draw_curves(folder)}")
    return "\n".join(lines)


def draw_curves(folder: Path) -> Path:
    """Draw loss, learning rate and gradient norm of train.csv and every metric of val_*.csv; needs matplotlib.

    Returns:
        The picture's path, curves.png in the folder.
    """
    from matplotlib.figure import Figure

    panels: dict[str, list[tuple[str, list[float], list[float]]]] = {}
    for path in [folder / "train.csv", *sorted(folder.glob("val_*.csv"))]:
        rows = _rows(path) if path.exists() else []
        for column in rows[0] if rows else ():
            if column not in ("iter", "epoch"):
                points = [row["iter"] for row in rows], [row[column] for row in rows]
                label = "training" if path.name == "train.csv" else path.stem.removeprefix("val_")
                panels.setdefault(column, []).append((label, *points))
    figure = Figure(figsize=(9, 2.4 * max(1, len(panels))), layout="constrained")
    axes = figure.subplots(max(1, len(panels)), squeeze=False)[:, 0]
    for axis, (column, curves) in zip(axes, panels.items(), strict=False):
        for label, iterations, values in curves:
            axis.plot(iterations, values, marker="." if len(iterations) < 30 else "", label=label)
        if column.startswith(("l_", "grad")):
            axis.set_yscale("log")
        axis.set_ylabel(column)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[-1].set_xlabel("iteration")
    path = folder / "curves.png"
    figure.savefig(path, dpi=110)
    return path


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
