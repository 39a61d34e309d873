"""The numbers of a release: PSNR and SSIM per image by the papers' protocol, through the leaderboard's parts."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from han_arch.errors import UserError
from han_arch.evaluation import contestants, run, sets
from han_arch.evaluation import score as scoring
from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.evaluation.sets import EvaluationSet

SETS = ("Set5", "Set14", "B100")
Scores = dict[str, dict[str, Score]]  # set -> image -> score
COLUMNS = ("model", "set", "image", "psnr_db", "ssim", "protocol", "weights_sha256")


def find_sets(root: Path, protocol: Protocol, names: Sequence[str] = SETS) -> list[EvaluationSet]:
    """The test sets under a folder: NAME/HR, or what `basicsr data prepare` made of it, NAME/GT_xSCALE.

    Raises:
        UserError: one line for each set that is not there and each image that cannot be used.
    """
    found, faults = [], []
    for name in names:
        folders = [root / name / "HR", root / name / f"GT_x{protocol.scale}"]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            faults.append(f"{name}: neither {folders[0]} nor {folders[1]} is there")
            continue
        checked, set_faults = sets.check_set(name, {"dataroot_gt": str(folder)}, protocol)
        found.append(checked)
        faults += set_faults
    if faults:
        raise UserError("\n  ".join(["test sets that cannot be measured:", *faults]))
    return found


def load(name: str, weights: Path, scale: int) -> Contestant:
    """A weight file as a contestant of the leaderboard, on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return contestants.build(name, {"checkpoint": str(weights)}, scale, device)


def bicubic(scale: int) -> Contestant:
    """MATLAB's bicubic, the tables' first row."""
    return contestants.build(contestants.BICUBIC, {"type": contestants.BICUBIC}, scale, torch.device("cpu"))


def measure(
    model: Contestant,
    test_sets: Sequence[EvaluationSet],
    keep: Callable[[str, str, np.ndarray], None] | None = None,
) -> Scores:
    """Upscale and score every image, whole.

    Args:
        model: who is measured.
        test_sets: from `find_sets`.
        keep: given set, image and SR, uint8, as it is made.

    Raises:
        UserError: the network gives nan or inf.
    """
    return run.measure_sets(model, test_sets, keep)


def means(scores: Scores) -> dict[str, Score]:
    """Mean score of each set."""
    return {name: scoring.mean_score(own).mean for name, own in scores.items()}


def per_image_csv(measured: Mapping[str, Scores], sha256: Mapping[str, str]) -> str:
    """Scores of models (name -> scores) as CSV, `COLUMNS`.

    Args:
        measured: what `measure` gave, by the model's name.
        sha256: of the weights, by the model's name; "" for none.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for model, scores in measured.items():
        for dataset, own in scores.items():
            for image, score in own.items():
                values = (f"{score.psnr:.6f}", f"{score.ssim:.6f}", score.protocol.name, sha256[model])
                writer.writerow((model, dataset, image, *values))
    return text.getvalue()


def read_means(path: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean PSNR and SSIM of a per-image CSV: model -> set -> (dB, SSIM); nan and inf are left out, as on the board.

    Raises:
        UserError: it is no such CSV.
    """
    collected: dict[str, dict[str, list[tuple[float, float]]]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                own = collected.setdefault(row["model"], {}).setdefault(row["set"], [])
                values = float(row["psnr_db"]), float(row["ssim"])
                if all(map(math.isfinite, values)):
                    own.append(values)
    except (KeyError, ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no per-image table of a release: {error}") from error
    return {
        model: {dataset: tuple(np.mean(values, axis=0).tolist()) for dataset, values in own.items() if values}
        for model, own in collected.items()
    }
