"""Read the folder of an experiment (a training) before its release: options, weights and number of iterations."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from han_arch.data.degradation import DEGRADATIONS
from han_arch.errors import UserError
from han_arch.evaluation.contestants import LATEST, find_option_file, find_weights
from han_arch.opt.read import read as read_options
from han_arch.release.card import TrainingSet, find_training_set

BEST = "net_g_best.pth"


@dataclass(frozen=True)
class Experiment:
    """The contents of an experiment's folder.

    Attributes:
        folder: folder that `basicsr train` wrote, such as experiments/NAME.
        option_file: path of the option file that the training used.
        options: content of this option file.
        checkpoint: path of the weight file to release.
        iterations: number of training iterations before these weights were saved.
        weight_key: key of the weights in the weight file: "params_ema" if the training averaged its weights (EMA),
            else "params".
    """

    folder: Path
    option_file: Path
    options: dict[str, Any]
    checkpoint: Path
    iterations: int
    weight_key: str

    @property
    def scale(self) -> int:
        """The scale of the network: HR side / LR side."""
        return int(self.options["scale"])

    @property
    def degradation(self) -> str:
        """The name of the degradation, BI or BD, from the name of the LR folder, such as LR_sub_BIx4.lmdb.

        Raises:
            UserError: the name of the LR folder has no degradation.
        """
        lq = Path(str(self.options["datasets"]["train"]["dataroot_lq"])).name
        match = re.search(rf"({'|'.join(DEGRADATIONS)})x{self.scale}", lq)
        if not match:
            raise UserError(
                f"{self.option_file}: the folder name in dataroot_lq must contain the degradation, "
                f"such as BIx{self.scale}; got {lq}"
            )
        return match[1]

    @property
    def chosen_by(self) -> str:
        """How the best checkpoint was chosen, as text; "" for the last checkpoint and for one that the user named."""
        if self.checkpoint.name != BEST:
            return ""
        metric = (self.options.get("logger") or {}).get("keep_best") or "psnr"
        val_set = self.options["datasets"]["val"]["name"]
        return f"the checkpoint with the best {metric} on {val_set} in all validations"

    @property
    def training_set(self) -> TrainingSet:
        """The training set with its licence terms.

        Raises:
            UserError: the package does not know the terms of this training set.
        """
        return find_training_set(str(self.options["datasets"]["train"]["name"]))

    @property
    def logs(self) -> list[Path]:
        """The paths of the training's log files, oldest first."""
        return sorted(self.folder.glob("train_*.log"), key=lambda path: path.stem[-15:])  # ..._YYYYmmdd_HHMMSS

    @property
    def numbers(self) -> list[Path]:
        """The paths of the CSV files with losses and validation results."""
        return [path for path in (self.folder / "train.csv", *sorted(self.folder.glob("val_*.csv"))) if path.is_file()]


def read(folder: Path, checkpoint: Path | None = None) -> Experiment:
    """Read an experiment.

    Args:
        folder: folder of the experiment, experiments/NAME.
        checkpoint: path of the weight file to release. None: models/net_g_best.pth if the training used the option
            `keep_best`, else models/net_g_latest.pth; the training must have finished.

    Raises:
        UserError: the folder, the weights or an option that a release needs is missing, or the folder does not contain
            exactly one option file.
    """
    option_file = find_option_file(folder)
    options = read_options(option_file)
    try:
        options["name"], options["scale"], options["network_g"]["type"], options["train"]["total_iter"]
        options["datasets"]["train"]["name"], options["datasets"]["train"]["dataroot_lq"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{option_file} is not a complete option file of a training; this option is missing: {error}"
        ) from error
    weights = find_weights(checkpoint or folder / LATEST)
    if checkpoint is None and (options.get("logger") or {}).get("keep_best"):
        weights = find_weights(weights.with_name(BEST))
    averaged = bool(options["train"].get("ema_decay"))
    iterations = _count_iterations(folder, weights)
    return Experiment(folder, option_file, options, weights, iterations, "params_ema" if averaged else "params")


def _count_iterations(folder: Path, weights: Path) -> int:
    stem = weights.stem.removeprefix("net_g_")
    if stem.isdigit():
        return int(stem)
    if stem == "best":
        rows = [row for path in sorted(folder.glob("val_*.csv")) for row in _rows(path) if "psnr" in row]
        if rows:
            return int(max(rows, key=lambda row: float(row["psnr"]))["iter"])
    states = [int(path.stem) for path in (folder / "training_states").glob("*.state") if path.stem.isdigit()]
    logged = [int(row["iter"]) for row in _rows(folder / "train.csv")]
    if not states and not logged:
        raise UserError(
            f"cannot find the number of iterations of {weights.name}: {folder} has no training state and no train.csv"
        )
    return max([*states, *logged])


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["iter"].isdigit()]
