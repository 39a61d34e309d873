"""What a leaderboard's option file asks for, all of it checked before the long run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.evaluation import contestants, gallery, protocol, sets
from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.gallery import GalleryOptions
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import EvaluationSet
from han_arch.inference import variants
from han_arch.zoo import entry

KEYS = (
    "name",
    "scale",
    "num_gpu",
    "protocol",
    "datasets",
    "models",
    "variants",
    "baseline",
    "cost",
    "gallery",
    "perceptual",
)
PERCEPTUAL = ("lpips", "dists", "niqe")  # see perceptual.py
_MODEL_KEYS = ("variants", "published")


@dataclass(frozen=True)
class Entrant:
    """A model on the board: how it is run, and the method of the papers' tables that it is set beside, if any."""

    model: Contestant
    variants: tuple[str, ...]
    published: str | None


@dataclass(frozen=True)
class Board:
    """A checked leaderboard.

    Attributes:
        name: of its folder.
        protocol: of all its measurements, but for LR that a set brings along.
        sets: the test sets.
        entrants: the models.
        baseline: name of the model that the others are compared with, in its first variant.
        lr_size, repeat: of `cost.measure`.
        device: where networks run.
        gallery: which crops the page shows.
        perceptual: names of perceptual metrics.
    """

    name: str
    protocol: Protocol
    sets: tuple[EvaluationSet, ...]
    entrants: tuple[Entrant, ...]
    baseline: str
    lr_size: int
    repeat: int
    device: torch.device
    gallery: GalleryOptions
    perceptual: tuple[str, ...] = ()

    @property
    def runs(self) -> list[tuple[Contestant, str]]:
        """Every model with every of its variants, in the file's order."""
        return [(entrant.model, variant) for entrant in self.entrants for variant in entrant.variants]


def check(options: Mapping[str, Any]) -> Board:
    """Check an option file's contents, every image and every checkpoint.

    Args:
        options: the file's mapping; each model's as in `contestants.build`, with `variants` and `published` besides.

    Raises:
        UserError: one line for each thing that is wrong.
    """
    _check_keys(options)
    scale = options["scale"]
    rule = protocol.from_options(options.get("protocol") or {}, scale)
    device = _device(options.get("num_gpu", "auto"))
    faults: list[str] = []
    checked_sets = []
    for name, set_options in options["datasets"].items():
        if not isinstance(set_options, Mapping):
            faults.append(f"{name}: must be a mapping with dataroot_gt; got {set_options!r}")
            continue
        checked, set_faults = sets.check_set(str(name), set_options, rule)
        checked_sets.append(checked)
        faults += set_faults
    entrants = []
    for name, model_options in options["models"].items():
        try:
            entrants.append(_entrant(str(name), model_options, options, scale, device))
        except (UserError, FileNotFoundError) as error:
            faults.append(f"{name}: {error}")
    baseline = str(options.get("baseline") or next(iter(options["models"])))
    if baseline not in options["models"]:
        faults.append(f"baseline {baseline} is none of the models: {', '.join(options['models'])}")
    cost = options.get("cost") or {}
    lr_size = _number(faults, "cost:lr_size", cost.get("lr_size", 64), 16)
    repeat = _number(faults, "cost:repeat", cost.get("repeat", 5), 1)
    gallery_options, gallery_faults = gallery.check_options(options.get("gallery") or {}, checked_sets)
    faults += gallery_faults
    metrics = options.get("perceptual") or []
    if not isinstance(metrics, list) or not set(metrics) <= set(PERCEPTUAL):
        faults.append(f"perceptual must be a list of {', '.join(PERCEPTUAL)}; got {metrics!r}")
    if faults:
        count = f"{len(faults)} things are" if len(faults) > 1 else "one thing is"
        raise UserError("\n  ".join([f"{count} wrong with the leaderboard; nothing was measured:", *faults]))
    return Board(
        name=options["name"],
        protocol=rule,
        sets=tuple(checked_sets),
        entrants=tuple(entrants),
        baseline=baseline,
        lr_size=lr_size,
        repeat=repeat,
        device=device,
        gallery=gallery_options,
        perceptual=tuple(metrics),
    )


def _check_keys(options: Mapping[str, Any]) -> None:
    unknown = [str(key) for key in options if key not in KEYS]
    if unknown:
        raise UserError(f"a leaderboard has no option {', '.join(unknown)}; there are {', '.join(KEYS)}")
    for key, kind, what in (
        ("name", str, "a folder's name"),
        ("scale", int, "a whole number"),
        ("datasets", dict, "a mapping of sets"),
        ("models", dict, "a mapping of models"),
    ):
        if not isinstance(options.get(key), kind) or not options[key]:
            raise UserError(f"a leaderboard needs {key}, {what}; got {options.get(key)!r}")


def _entrant(name: str, model_options: Any, options: Mapping[str, Any], scale: int, device: torch.device) -> Entrant:
    # `HAN-S: han-s-x4`, or `han-s-x4:` alone, is an entry of the zoo.
    if model_options is None and entry.is_name(name):
        model_options = name
    if isinstance(model_options, str):
        model_options = {"zoo": model_options}
    if not isinstance(model_options, Mapping):
        raise UserError(f"must be a mapping, or an entry of the zoo; got {model_options!r}")
    own = {key: value for key, value in model_options.items() if key not in _MODEL_KEYS}
    model = contestants.build(name, own, scale, device)
    wanted = model_options.get("variants", options.get("variants")) or [variants.FULL]
    if model.net is None:
        wanted = [variants.FULL]
    if not isinstance(wanted, list):
        raise UserError(f"variants must be a list; got {wanted!r}")
    for variant in wanted:
        variants.check(variant)
    return Entrant(model, tuple(wanted), model_options.get("published", name))


def _number(faults: list[str], what: str, value: Any, least: int) -> int:
    if type(value) is int and value >= least:
        return value
    faults.append(f"{what} must be a whole number from {least}; got {value!r}")
    return least


def _device(num_gpu: Any) -> torch.device:
    if num_gpu != "auto" and (type(num_gpu) is not int or num_gpu < 0):
        raise UserError(f"num_gpu must be auto or a whole number from 0; got {num_gpu!r}")
    return torch.device("cuda" if num_gpu != 0 and torch.cuda.is_available() else "cpu")
