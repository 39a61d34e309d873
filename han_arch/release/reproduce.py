"""The stages of a recipe, and the commands from photos to a weight's numbers."""

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
    """One training of a recipe: name and contents of its option file."""

    file: str
    options: dict[str, Any]

    @property
    def scale(self) -> int:
        """HR side / LR side."""
        return int(self.options["scale"])

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return int(self.options["train"]["total_iter"])

    @property
    def start(self) -> str | None:
        """The weights that it starts from."""
        return (self.options.get("path") or {}).get("pretrain_network_g")


def stages_of(recipe: str) -> list[Stage]:
    """Return all trainings of a shipped recipe, in their order.

    Raises:
        UserError: no shipped option file has this name, or none makes the experiment that a stage starts from.
    """
    stage = Stage(recipe, read.read(recipe))
    return [*stages_before(stage), stage]


def stages_before(stage: Stage) -> list[Stage]:
    """Return the trainings that must run before a stage; none if it starts from scratch or from a zoo weight."""
    parts = PurePosixPath(stage.start or "").parts
    if parts[:1] != ("experiments",):
        return []
    other = stage_named(parts[1])
    if other is None:
        raise UserError(f"{stage.file} starts from {stage.start}, which no shipped option file makes")
    return [*stages_before(other), other]


def stage_named(experiment: str) -> Stage | None:
    """Return the training of the shipped option file that makes an experiment, if any."""
    for file in read.run_names():
        if file.startswith("train"):
            options = read.read(file)
            if options["name"] == experiment:
                return Stage(file, options)
    return None


@dataclass(frozen=True)
class Step:
    """One command: its purpose, and its words without `basicsr`."""

    why: str
    words: tuple[str, ...]


def steps(entry: Entry, photos: Path, benchmarks: Path, release: Path) -> Iterator[Step]:
    """Yield the steps for an entry, in the order in which to run them in one folder.

    Args:
        entry: one that was trained here.
        photos: folder with the training set's HR images.
        benchmarks: folder with Set5/HR, Set14/HR and B100/HR.
        release: the folder that the last step but one makes.

    Raises:
        UserError: the entry has no recipe.
    """
    if entry.recipe is None:
        raise UserError(f"{entry.name} has no recipe here: {entry.origin}")
    stages = stages_of(entry.recipe)
    training_set = card.find_training_set(entry.training_set)
    prepare = ("data", "prepare")
    for scale in dict.fromkeys(str(stage.scale) for stage in stages):
        yield Step(
            f"LR and sub-images of {training_set.images} photos: {training_set.what}",
            (*prepare, str(photos), "-o", f"datasets/{training_set.name}", "--scale", scale, *training_set.prepare),
        )
        for name in PAPER_SETS:
            yield Step(
                f"the test set {name}",
                (*prepare, str(benchmarks / name / "HR"), "-o", f"datasets/{name}", "--scale", scale, "--benchmark"),
            )
    for index, stage in enumerate(stages):
        start = "the stage before" if index else f"the zoo's {stage.start}" if stage.start else "scratch"
        yield Step(
            f"{stage.iterations:,} iterations, seed {stage.options['manual_seed']}, from {start}",
            ("train", "-opt", stage.file.removesuffix(".yml"), "--auto_resume"),
        )
    experiment = f"experiments/{stages[-1].options['name']}"
    yield Step(
        "the release, with its numbers by the papers' protocol",
        ("zoo", "publish", experiment, "-o", str(release), "--name", entry.name, "--data", "datasets"),
    )
    yield Step("compare them with the table", ("zoo", "verify", str(release), "--against", entry.name))


def run_apart(step: Step) -> int:
    """Run a step in a process of its own, since trainings leave threads and registries; return the exit status."""
    return subprocess.run([sys.executable, "-m", "han_arch", *step.words], check=False).returncode
