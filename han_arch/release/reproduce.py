"""The commands from data to a weight's numbers."""

from dataclasses import dataclass
from pathlib import Path

from han_arch.errors import UserError
from han_arch.release import stages, training_sets
from han_arch.release.measure import SETS
from han_arch.zoo.entry import Entry


@dataclass(frozen=True)
class Step:
    """One command: what it is for, and its words, `basicsr` left out."""

    why: str
    words: tuple[str, ...]


def steps(entry: Entry, photos: Path, benchmarks: Path, release: Path) -> list[Step]:
    """The steps for an entry, to be run one after the other in one folder.

    Args:
        entry: one that was trained here.
        photos: folder with the training set's HR images.
        benchmarks: folder with Set5/HR, Set14/HR and B100/HR.
        release: the folder that the last step makes.

    Raises:
        UserError: the entry has no recipe.
    """
    if entry.recipe is None:
        raise UserError(f"{entry.name} has no recipe here: {entry.origin}")
    trainings = stages.of_recipe(entry.recipe)
    training_set = training_sets.find(entry.training_set)
    found = []
    for scale in dict.fromkeys(str(stage.options["scale"]) for stage in trainings):
        words = ("data", "prepare", str(photos), "-o", f"datasets/{training_set.name}", "--scale", scale)
        why = f"LR and sub-images of {training_set.images} photos: {training_set.what}"
        found.append(Step(why, (*words, *training_set.prepare)))
        for name in SETS:
            words = ("data", "prepare", str(benchmarks / name / "HR"), "-o", f"datasets/{name}", "--scale", scale)
            found.append(Step(f"the test set {name}", (*words, "--benchmark")))
    for index, stage in enumerate(trainings):
        why = f"{stage.iterations:,} iterations, seed {stage.options['manual_seed']}, "
        why += "from what they gave" if index else f"from the zoo's {stage.start}" if stage.start else "from scratch"
        found.append(Step(why, ("train", "-opt", stage.file.removesuffix(".yml"), "--auto_resume")))
    found.append(
        Step(
            "the release, with its numbers by the papers' protocol",
            (
                "zoo",
                "publish",
                trainings[-1].experiment,
                "-o",
                str(release),
                "--name",
                entry.name,
                "--data",
                "datasets",
            ),
        )
    )
    found.append(
        Step("compare them with the table", ("zoo", "verify", str(release), "--against", entry.name)),
    )
    return found
