"""The commands from data to a weight's numbers."""

from dataclasses import dataclass
from pathlib import Path

from han_arch.errors import UserError
from han_arch.release import training_sets
from han_arch.release.measure import SETS
from han_arch.training import shipped_options, yaml_options
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
    options = _options(entry.recipe)
    training_set = training_sets.find(entry.training_set)
    scale = str(options["scale"])
    found = [
        Step(
            f"LR and sub-images of {training_set.images} photos: {training_set.what}",
            ("data", "prepare", str(photos), "-o", f"datasets/{training_set.name}", "--scale", scale,
             *training_set.prepare),
        )
    ]  # fmt: skip
    for name in SETS:
        words = ("data", "prepare", str(benchmarks / name / "HR"), "-o", f"datasets/{name}", "--scale", scale)
        found.append(Step(f"the test set {name}", (*words, "--benchmark")))
    start = options["path"].get("pretrain_network_g")
    why = f"{options['train']['total_iter']:,} iterations, seed {options['manual_seed']}"
    why += f", from the zoo's {start}" if start else ", from scratch"
    found.append(Step(why, ("train", "-opt", entry.recipe.removesuffix(".yml"), "--auto_resume")))
    experiment = f"experiments/{options['name']}"
    found.append(
        Step(
            "the release, with its numbers by the papers' protocol",
            ("zoo", "publish", experiment, "-o", str(release), "--name", entry.name, "--data", "datasets"),
        )
    )
    found.append(
        Step("compare them with the table", ("zoo", "verify", str(release), "--against", entry.name)),
    )
    return found


def _options(file: str) -> dict:
    return yaml_options.read(shipped_options.find(file))
