"""Make the tables of the ablation: a comparison of networks trained by the same recipe with several seeds.

Two CSV files contain all numbers. runs.csv has one row (`RUN_COLUMNS`) for each network, seed and test set. images.csv
has one row (`IMAGE_COLUMNS`) for each network and image, with the PSNR averaged over the seeds. The comparison of two
networks needs the PSNR of each image.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from han_arch.errors import UserError
from han_arch.evaluation import comparison
from han_arch.evaluation.rows import comparison_cells, csv_text, markdown_table
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score import number

FOLDER = "model_zoo/ablation"  # path of the folder, relative to docs/
# Name of the network in the tables -> name of its option file. The rows of the tables have the same order.
MODELS = {
    "EDSR": "ablation_EDSR_x4",
    "RCAN": "ablation_RCAN_x4",
    "HAN": "ablation_HAN_x4",
    "HAN without LAM": "ablation_HAN-no-LAM_x4",
    "HAN without CSAM": "ablation_HAN-no-CSAM_x4",
    "HAN, cosine LAM": "ablation_HAN-cosine-LAM_x4",
}
# RCAN: the paper claims that HAN is better than RCAN. HAN: a comparison with it shows the effect of each part of HAN.
BASELINES = ("RCAN", "HAN")
RUNS, IMAGES = "runs.csv", "images.csv"
RUN_COLUMNS = (
    "model", "seed", "set", "images", "psnr_db", "ssim", "parameters", "iterations", "alpha", "beta", "protocol",
    "weights_sha256",
)  # fmt: skip
IMAGE_COLUMNS = ("model", "set", "image", "psnr_db")


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run."""

    model: str  # a key of `MODELS`
    seed: int
    iterations: int
    alpha: float | None  # gate of LAM; None if the network does not have LAM
    beta: float | None  # gate of CSAM; None if the network does not have CSAM

    @property
    def label(self) -> str:
        """Name of this training run on the leaderboard."""
        return f"{self.model}, seed {self.seed}"


def tables(runs: Sequence[TrainedRun], results: Iterable[SetResult]) -> tuple[str, str]:
    """Return the texts of runs.csv and images.csv. `contestant` of each result must be the `label` of a run."""
    by_label = {run.label: run for run in runs}
    rows: list[dict[str, str]] = []
    images: dict[tuple[str, str, str], list[float]] = {}
    for result in results:
        run = by_label[result.contestant]
        mean = result.mean
        rows.append(
            {
                "model": run.model,
                "seed": str(run.seed),
                "set": result.dataset,
                "images": str(mean.images),
                "psnr_db": f"{mean.psnr:.6f}",
                "ssim": f"{mean.ssim:.6f}",
                "parameters": str(result.cost.parameters),
                "iterations": str(run.iterations),
                "alpha": "" if run.alpha is None else f"{run.alpha:.6g}",
                "beta": "" if run.beta is None else f"{run.beta:.6g}",
                "protocol": result.protocol.name,
                "weights_sha256": result.weights_sha256,
            }
        )
        for name, score in result.scores.items():
            images.setdefault((run.model, result.dataset, name), []).append(score.psnr)
    order = {name: number for number, name in enumerate(MODELS)}
    rows.sort(key=lambda row: (order[row["model"]], int(row["seed"])))  # a stable sort keeps the order of the sets
    image_rows = [
        dict(zip(IMAGE_COLUMNS, (*key, f"{np.mean(values):.6f}"), strict=True)) for key, values in images.items()
    ]
    image_rows.sort(key=lambda row: order[row["model"]])
    return csv_text(RUN_COLUMNS, rows), csv_text(IMAGE_COLUMNS, image_rows)


def markdown(folder: Path) -> str:
    """Read runs.csv and images.csv in the folder, and return Markdown tables with the results.

    Raises:
        FileNotFoundError: one of the two files does not exist.
        UserError: one of the files is damaged, or the two files have different networks or sets.
    """
    runs, images = _read(folder / RUNS, RUN_COLUMNS), _read(folder / IMAGES, IMAGE_COLUMNS)
    names = [name for name in MODELS if any(row["model"] == name for row in runs)]
    datasets = list(dict.fromkeys(row["set"] for row in runs))
    psnr = {(row["model"], row["set"], row["image"]): float(row["psnr_db"]) for row in images}
    if {(row["model"], row["set"]) for row in runs} != {key[:2] for key in psnr}:
        raise UserError(
            f"{folder / RUNS} and {folder / IMAGES} must have the same networks and sets; run scripts/ablation.py again"
        )
    seeds = sorted({row["seed"] for row in runs}, key=int)
    iterations = sorted({row["iterations"] for row in runs}, key=int)
    lines = [
        f"Scale x4, trained on BSDS400 with options/ablation_*.yml, {' or '.join(iterations)} iterations, seeds "
        f"{', '.join(seeds)}. The table shows mean ± standard deviation of the PSNR over the seeds, in dB.",
        f"Protocol: `{runs[0]['protocol']}`",
        "",
    ]
    rows = []
    for name in names:
        own = [row for row in runs if row["model"] == name]
        own_seeds = {row["seed"] for row in own}
        cells = []
        for dataset in datasets:
            total = sum(key[:2] == (name, dataset) for key in psnr)
            cells.append(_spread([row for row in own if row["set"] == dataset], total))
        first = [row for row in own if row["set"] == datasets[0]]
        gates = [", ".join(row[key] for row in first if row[key]) for key in ("alpha", "beta")]
        rows.append([name, f"{int(own[0]['parameters']):,}", str(len(own_seeds)), *cells, *gates])
    lines += markdown_table(["network", "parameters", "seeds", *datasets, "alpha", "beta"], rows)
    for baseline in BASELINES:
        if baseline in names and len(names) > 1:
            lines += _comparison(baseline, names, datasets, psnr)
    return "\n".join(lines)


def _comparison(
    baseline: str, names: list[str], datasets: list[str], psnr: Mapping[tuple[str, str, str], float]
) -> list[str]:
    text = (
        f"Each network compared with {baseline}, image by image. The PSNR of an image is its mean over the seeds. The "
        "columns are the mean PSNR difference in dB with its 95 % bootstrap interval, the number of images won : lost, "
        "and the p value of a two-sided sign test. The interval and the p value show how much the result depends on "
        "the images. The ± in the first table shows how much it depends on the seed."
    )
    rows = []
    for name in names:
        for dataset in datasets:
            if name == baseline:
                continue
            images = [key[2] for key in psnr if key[:2] == (name, dataset)]
            try:
                base = [psnr[baseline, dataset, image] for image in images]
            except KeyError as error:
                raise UserError(
                    f"images.csv has no result of {baseline} on the image {' '.join(error.args[0][1:])}; "
                    "run scripts/ablation.py again"
                ) from error
            versus = comparison.compare([psnr[name, dataset, image] for image in images], base)
            rows.append([name, dataset, *comparison_cells(versus, len(images))])
    heads = ["network", "set", f"minus {baseline}, dB [95 %]", "won : lost", "p", "verdict"]
    return [text, "", *markdown_table(heads, rows)]


def _spread(runs: Sequence[Mapping[str, str]], images: int) -> str:
    """Return mean and deviation of the PSNR over the seeds, and the fewest images of a run if it has not all images."""
    values = [float(run["psnr_db"]) for run in runs]
    spread = f" ± {number(float(np.std(values, ddof=1)), 3)}" if len(values) > 1 else ""
    fewest = min(int(run["images"]) for run in runs)
    share = f" ({fewest} of {images} images)" if fewest < images else ""
    return f"{number(float(np.mean(values)), 3)}{spread}{share}"


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    if tuple(reader.fieldnames or ()) != tuple(columns) or not rows:
        raise UserError(f"{path} must have rows with the columns {', '.join(columns)}; run scripts/ablation.py again")
    return rows
