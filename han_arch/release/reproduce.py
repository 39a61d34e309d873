"""List the commands that reproduce released weights: prepare photos, train, publish, and compare scores."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from han_arch.errors import UserError
from han_arch.evaluation.sets import PAPER_SETS
from han_arch.opt import read
from han_arch.release import card
from han_arch.zoo.entry import Entry


@dataclass(frozen=True)
class Stage:
    """One of the trainings that a recipe runs one after another.

    Attributes:
        file: name of the training's option file.
        options: content of this option file.
    """

    file: str
    options: dict[str, Any]

    @property
    def scale(self) -> int:
        """The scale of the network: HR side / LR side."""
        return int(self.options["scale"])

    @property
    def iterations(self) -> int:
        """The number of iterations of this training."""
        return int(self.options["train"]["total_iter"])

    @property
    def start(self) -> str | None:
        """The path or zoo name of the weights that this training starts from; None for random weights."""
        return (self.options.get("path") or {}).get("pretrain_network_g")


def stages_of(recipe: str) -> list[Stage]:
    """Return all trainings of a recipe, in the order in which to run them.

    Args:
        recipe: name of the last training's option file, which comes with the package.

    Raises:
        UserError: the package has no option file with this name, or a training starts from an experiment for which the
            package has no option file.
    """
    stage = Stage(recipe, read.read(recipe))
    return [*stages_before(stage), stage]


def stages_before(stage: Stage) -> list[Stage]:
    """Return the trainings that must run before the given training, in the order in which to run them.

    The list is empty if the training starts from random weights or from weights of the zoo.
    """
    parts = PurePosixPath(stage.start or "").parts
    if parts[:1] != ("experiments",):
        return []
    other = stage_named(parts[1])
    if other is None:
        raise UserError(
            f"{stage.file} starts from {stage.start}, but the package has no option file of the experiment {parts[1]}"
        )
    return [*stages_before(other), other]


def stage_named(experiment: str) -> Stage | None:
    """Return the training with this experiment name, from the package's option files; None if there is none."""
    for file in read.run_names():
        if file.startswith("train"):
            options = read.read(file)
            if options["name"] == experiment:
                return Stage(file, options)
    return None


@dataclass(frozen=True)
class Step:
    """One command of the list that `basicsr zoo reproduce` prints.

    Attributes:
        why: purpose of the command.
        words: arguments of `basicsr`.
    """

    why: str
    words: tuple[str, ...]


def steps(entry: Entry, photos: Path, benchmarks: Path, release: Path) -> Iterator[Step]:
    """Yield the commands that reproduce a zoo entry. Run them in this order, all in the same folder.

    Args:
        entry: a zoo entry that was trained with this package.
        photos: folder with the HR images of the training set.
        benchmarks: folder that contains Set5/HR, Set14/HR and B100/HR.
        release: path for the new release folder.

    Raises:
        UserError: the entry has no recipe, because it was not trained with this package.
    """
    if entry.recipe is None:
        raise UserError(f"{entry.name} has no recipe, so it cannot be reproduced; its origin: {entry.origin}")
    stages = stages_of(entry.recipe)
    training_set = card.find_training_set(entry.training_set)
    prepare = ("data", "prepare")
    for scale in dict.fromkeys(str(stage.scale) for stage in stages):
        yield Step(
            f"make the LR images and sub-images of {training_set.images} photos: {training_set.what}",
            (*prepare, str(photos), "-o", f"datasets/{training_set.name}", "--scale", scale, *training_set.prepare),
        )
        for name in PAPER_SETS:
            yield Step(
                f"make the HR and LR images of the test set {name}",
                (*prepare, str(benchmarks / name / "HR"), "-o", f"datasets/{name}", "--scale", scale, "--benchmark"),
            )
    for index, stage in enumerate(stages):
        start = (
            "the weights of the previous training"
            if index
            else f"the zoo's weights {stage.start}"
            if stage.start
            else "random weights"
        )
        yield Step(
            f"train: {stage.iterations:,} iterations, seed {stage.options['manual_seed']}, from {start}",
            ("train", "-opt", stage.file.removesuffix(".yml"), "--auto_resume"),
        )
    experiment = f"experiments/{stages[-1].options['name']}"
    yield Step(
        "make the release folder, and measure the weights with the papers' protocol",
        ("zoo", "publish", experiment, "-o", str(release), "--name", entry.name, "--data", "datasets"),
    )
    yield Step(
        "compare the scores of the release with the zoo's table",
        ("zoo", "verify", str(release), "--against", entry.name),
    )


def run_apart(step: Step) -> int:
    """Run a command in a new process and return its exit status.

    A new process is needed, because a training leaves threads and registries behind.
    """
    return subprocess.run([sys.executable, "-m", "han_arch", *step.words], check=False).returncode
