"""The stages of a recipe: option files each of which starts from the experiment of the one before."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from han_arch.errors import UserError
from han_arch.opt import read, shipped


@dataclass(frozen=True)
class Stage:
    """One training: the option file's name and contents."""

    file: str
    options: dict[str, Any]

    @property
    def experiment(self) -> str:
        """The folder that it makes."""
        return f"experiments/{self.options['name']}"

    @property
    def iterations(self) -> int:
        """How long it is."""
        return int(self.options["train"]["total_iter"])

    @property
    def start(self) -> str | None:
        """The weights that it starts from."""
        return (self.options.get("path") or {}).get("pretrain_network_g")


def of_recipe(recipe: str) -> list[Stage]:
    """All trainings that a shipped recipe needs, the first one first.

    Raises:
        UserError: no shipped option file of that name, or none that makes the experiment it starts from.
    """
    return [*before(stage := _read(recipe)), stage]


def before(stage: Stage) -> list[Stage]:
    """The stages that must have run before this one: none if it starts from scratch or from a weight of the zoo."""
    parts = PurePosixPath(stage.start or "").parts
    if parts[:1] != ("experiments",):
        return []
    for file in shipped.run_names():
        if file.startswith("train"):
            other = _read(file)
            if other.options["name"] == parts[1]:
                return [*before(other), other]
    raise UserError(f"{stage.file} starts from {stage.start}, which no shipped option file makes")


def _read(file: str) -> Stage:
    return Stage(file, read.read(shipped.find(file)))
