"""List the commands that reproduce released weights: prepare photos, train, publish, compare scores."""

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
    """One training stage of a recipe: the name and the content of its option file."""

    file: str
    options: dict[str, Any]

    @property
    def scale(self) -> int:
        """The scale of the network: HR side / LR side."""
        return int(self.options["scale"])

    @property
    def iterations(self) -> int:
        """The number of training iterations."""
        return int(self.options["train"]["total_iter"])

    @property
    def start(self) -> str | None:
        """The path or the zoo name of the weights that the training starts from; None for random weights."""
        return (self.options.get("path") or {}).get("pretrain_network_g")


def stages_of(recipe: str) -> list[Stage]:
    """Return all training stages of a recipe in their order. `recipe` is the option file of the last stage.

    Raises:
        UserError: the package does not contain the option files of all stages.
    """
    stage = Stage(recipe, read.read(recipe))
    return [*stages_before(stage), stage]


def stages_before(stage: Stage) -> list[Stage]:
    """Return the training stages that must run before `stage`, in their order.

    The list is empty if `stage` starts from random weights or from weights of the zoo.

    Raises:
        UserError: the package does not contain the option file of an earlier stage.
    """
    parts = PurePosixPath(stage.start or "").parts
    if parts[:1] != ("experiments",):
        return []
    other = stage_named(parts[1])
    if other is None:
        raise UserError(
            f"{stage.file} starts from {stage.start}, but the package has no option file for the experiment {parts[1]}"
        )
    return [*stages_before(other), other]


def stage_named(experiment: str) -> Stage | None:
    """Return the training stage with this experiment name; None if the package has no option file for it."""
    stages = (Stage(file, read.read(file)) for file in read.run_names() if file.startswith("train"))
    return next((stage for stage in stages if stage.options["name"] == experiment), None)


@dataclass(frozen=True)
class Step:
    """One command. `why` is the purpose of the command, and `words` are the arguments of `basicsr`."""

    why: str
    words: tuple[str, ...]


def steps(entry: Entry, photos: Path, benchmarks: Path, release: Path) -> Iterator[Step]:
    """Yield the commands that reproduce a zoo entry. The commands must run in this order, all in the same folder.

    Args:
        photos: folder with the HR images of the training set.
        benchmarks: folder with Set5/HR, Set14/HR and B100/HR.
        release: path for the new release folder.

    Raises:
        UserError: the entry has no recipe, because its weights were not trained with this package.
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
    start = f"the zoo's weights {stages[0].start}" if stages[0].start else "random weights"
    for stage in stages:
        yield Step(
            f"train: {stage.iterations:,} iterations, seed {stage.options['manual_seed']}, from {start}",
            ("train", "-opt", stage.file.removesuffix(".yml"), "--auto_resume"),
        )
        start = "the weights of the previous training"
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
    """Run a command in a new process, so that earlier commands cannot affect it. Return the exit status."""
    return subprocess.run([sys.executable, "-m", "han_arch", *step.words], check=False).returncode
