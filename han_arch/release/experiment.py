"""Read the folder of a training run: the options, weights and number of iterations that a release needs."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from han_arch.data.degradation import DEGRADATIONS
from han_arch.errors import UserError
from han_arch.evaluation.contestants import LATEST, find_option_file, find_weights
from han_arch.opt.read import read as read_options
from han_arch.release.card import TrainingSet, find_training_set
from han_arch.training.records import read_rows

BEST = "net_g_best.pth"


@dataclass(frozen=True)
class Experiment:
    """The contents of an experiment's folder.

    Attributes:
        folder: folder that `basicsr train` wrote, such as experiments/NAME.
        options: content of the option file.
        degradation: BI or BD.
        checkpoint: path of the weight file to release.
        iterations: number of training iterations before the checkpoint was saved.
        weight_key: key of the weights in the checkpoint: "params_ema" if the run used `ema_decay`, otherwise "params".
    """

    folder: Path
    option_file: Path
    options: dict[str, Any]
    scale: int
    degradation: str
    training_set: TrainingSet
    checkpoint: Path
    iterations: int
    weight_key: str

    @property
    def chosen_by(self) -> str:
        """How the best checkpoint was selected, in words; "" if `checkpoint` is not the best checkpoint."""
        if self.checkpoint.name != BEST:
            return ""
        metric = (self.options.get("logger") or {}).get("keep_best") or "psnr"
        val_set = self.options["datasets"]["val"]["name"]
        return f"the checkpoint with the best {metric} on {val_set} in all validations"

    @property
    def numbers(self) -> list[Path]:
        """Paths of the CSV files with losses and validation results."""
        return [path for path in (self.folder / "train.csv", *sorted(self.folder.glob("val_*.csv"))) if path.is_file()]


def read(folder: Path, checkpoint: Path | None = None) -> Experiment:
    """Read the folder of an experiment.

    Args:
        folder: folder of the experiment, experiments/NAME.
        checkpoint: weight file to release. None: models/net_g_best.pth if the run used `keep_best`, otherwise
            models/net_g_latest.pth. If `checkpoint` is None, the training run must have finished.

    Raises:
        UserError: the weights or an option is missing; the folder does not have exactly one option file; the name of
            the LR folder does not contain the degradation; or the terms of the photos are unknown.
    """
    option_file = find_option_file(folder)
    options = read_options(option_file)
    try:
        scale, data = int(options["scale"]), options["datasets"]["train"]
        name, lq = str(data["name"]), Path(str(data["dataroot_lq"])).name
        options["name"], options["network_g"]["type"], options["train"]["total_iter"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{option_file} is not a complete option file for training; this option is missing: {error}"
        ) from error
    match = re.search(rf"({'|'.join(DEGRADATIONS)})x{scale}", lq)
    if not match:
        raise UserError(
            f"{option_file}: the folder name in dataroot_lq must contain the degradation, such as BIx{scale}; got {lq}"
        )
    weights = find_weights(checkpoint or folder / LATEST)
    if checkpoint is None and (options.get("logger") or {}).get("keep_best"):
        weights = find_weights(weights.with_name(BEST))
    return Experiment(
        folder=folder,
        option_file=option_file,
        options=options,
        scale=scale,
        degradation=match[1],
        training_set=find_training_set(name),
        checkpoint=weights,
        iterations=_count_iterations(folder, weights),
        weight_key="params_ema" if options["train"].get("ema_decay") else "params",
    )


def _count_iterations(folder: Path, weights: Path) -> int:
    stem = weights.stem.removeprefix("net_g_")
    if stem.isdigit():
        return int(stem)
    if stem == "best":
        rows = [row for path in sorted(folder.glob("val_*.csv")) for row in read_rows(path) if "psnr" in row]
        if rows:
            return int(max(rows, key=lambda row: float(row["psnr"]))["iter"])
    states = [int(path.stem) for path in (folder / "training_states").glob("*.state") if path.stem.isdigit()]
    logged = [int(row["iter"]) for row in read_rows(folder / "train.csv")]
    if not states and not logged:
        raise UserError(
            f"cannot find the number of iterations of {weights.name}: {folder} has no training state and no train.csv"
        )
    return max([*states, *logged])
