"""Read a leaderboard from an option file: check the options and images, and load the contestants.

Before the long measurement starts, one message reports the faults of all images, models, `baseline`, `cost`, `gallery`
and `perceptual`. A fault in another option is reported first and alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from han_arch.errors import UserError, hint, reason
from han_arch.evaluation import contestants, protocol, score, sets
from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import EvaluationSet
from han_arch.names import check_name

KEYS = (
    "name", "scale", "num_gpu", "protocol", "datasets", "models", "variants", "baseline", "cost", "gallery",
    "perceptual",
)  # fmt: skip
_LARGEST = 10_000  # largest number of time measurements, pixels of a side, or crops
CROP_KEYS = ("set", "image", "left", "top")


@dataclass(frozen=True)
class CropPlace:
    """The place of a square crop: test set, image, and top left corner in HR pixels."""

    dataset: str
    image: str
    left: int
    top: int


@dataclass(frozen=True)
class GalleryOptions:
    """The options for the crops on the HTML page."""

    count: int = 6  # number of crops that the program chooses if the user chose no places
    size: int = 96  # side of each square crop in HR pixels
    places: tuple[CropPlace, ...] = ()  # the places that the user chose


@dataclass(frozen=True)
class Board:
    """A leaderboard with checked options."""

    name: str  # name of the leaderboard and of its results folder
    protocol: Protocol  # protocol of all test sets; sets with LR files of the user have another `lr_border`
    sets: tuple[EvaluationSet, ...]
    contestants: tuple[Contestant, ...]
    baseline: str  # name of the contestant to compare the others with; its first variant is used
    lr_size: int  # side in pixels of the square LR image for measuring time and memory
    repeat: int  # number of time measurements for each contestant and variant
    device: torch.device  # the device on which the networks run
    gallery: GalleryOptions
    perceptual: tuple[str, ...] = ()  # names of the optional metrics to measure

    @property
    def runs(self) -> list[tuple[Contestant, str]]:
        """All pairs of a contestant and one of its variants, in the order of the option file."""
        return [(contestant, variant) for contestant in self.contestants for variant in contestant.variants]


def load(options: Mapping[str, Any]) -> Board:
    """Check the options and every image of a leaderboard, and load every contestant.

    Raises:
        UserError: an option, an image or a contestant cannot be used. The message lists the faults, one per line.
    """
    _check_keys(options)
    scale = options["scale"]
    rule = protocol.from_options(options.get("protocol") or {}, scale)
    device = _find_device(options.get("num_gpu", "auto"))
    faults: list[str] = []
    test_sets = [sets.read_set(str(name), own, rule, faults) for name, own in options["datasets"].items()]
    built = []
    for name, model_options in options["models"].items():
        try:
            built.append(contestants.build(str(name), model_options, scale, device, options.get("variants")))
        except Exception as error:  # networks of other packages may raise any exception
            faults.append(f"{name}: {reason(error)}")
    faults += _find_equal_names(options, built)
    baseline = str(options.get("baseline") or next(iter(options["models"])))
    if baseline not in map(str, options["models"]):
        nearest = hint(baseline, options["models"])
        faults.append(f"baseline must be the name of a model in this leaderboard; got {baseline}; {nearest}")
    cost = _read_section(options, "cost", {"lr_size": (64, 16), "repeat": (5, 1)}, faults)
    gallery = _read_gallery(options, test_sets, faults)
    perceptual, known = options.get("perceptual") or [], score.optional_names()
    if not isinstance(perceptual, list) or not all(name in known for name in perceptual):
        faults.append(f"perceptual must be a list of metrics ({', '.join(known)}); got {perceptual!r}")
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError("\n  ".join([f"the leaderboard was not measured, because it has {count}:", *faults]))
    return Board(
        name=options["name"],
        protocol=rule,
        sets=tuple(test_sets),
        contestants=tuple(built),
        baseline=baseline,
        lr_size=cost["lr_size"],
        repeat=cost["repeat"],
        device=device,
        gallery=gallery,
        perceptual=tuple(perceptual),
    )


def _check_keys(options: Mapping[str, Any]) -> None:
    unknown = [str(key) for key in options if key not in KEYS]
    if unknown:
        raise UserError(f"unknown option of a leaderboard: {', '.join(unknown)}; {hint(unknown[0], KEYS)}")
    for key, kind, what in (
        ("name", str, "the name of its results folder"),
        ("scale", int, "a whole number"),
        ("datasets", dict, "a mapping from set names to folders"),
        ("models", dict, "a mapping from model names to options"),
    ):
        if not isinstance(options.get(key), kind) or not options[key]:
            raise UserError(f"a leaderboard needs the option {key} ({what}); got {options.get(key)!r}")
    check_name("the option name", options["name"])


def _find_equal_names(options: Mapping[str, Any], built: Sequence[Contestant]) -> list[str]:
    """Return a fault for each name that two test sets, or two rows of a table, have in common."""
    names = {
        "test sets": [str(name) for name in options["datasets"]],
        "rows of the table": [contestants.label(one.name, variant) for one in built for variant in one.variants],
    }
    counts = {what: Counter(own) for what, own in names.items()}
    return [
        f"two {what} have the name {name!r}; rename one of them"
        for what, own in counts.items()
        for name, count in own.items()
        if count > 1
    ] + [f"the name of one of the {what} is empty" for what, own in counts.items() if not all(map(str.strip, own))]


def _read_section(
    options: Mapping[str, Any], section: str, known: Mapping[str, tuple[Any, int | None]], faults: list[str]
) -> dict[str, Any]:
    """Return all options of a section. `known` maps an option to its default and minimum (None: no minimum)."""
    own = options.get(section) or {}
    if not isinstance(own, Mapping):
        example = ", ".join(f"{key}: {default}" for key, (default, least) in known.items() if least is not None)
        faults.append(f"{section} must be a mapping of options, such as {{{example}}}; got {own!r}")
        own = {}
    faults += [f"unknown option {key!r} of {section}; {hint(key, known)}" for key in own if key not in known]
    values = {key: own.get(key, default) for key, (default, _) in known.items()}
    for key, (_, least) in known.items():
        if least is not None and (type(values[key]) is not int or not least <= values[key] <= _LARGEST):
            faults.append(f"{section}:{key} must be a whole number from {least} to {_LARGEST}; got {values[key]!r}")
    return values


def _read_gallery(options: Mapping[str, Any], test_sets: Sequence[EvaluationSet], faults: list[str]) -> GalleryOptions:
    defaults = GalleryOptions()
    known = {"count": (defaults.count, 0), "size": (defaults.size, 16), "crops": ((), None)}
    gallery = _read_section(options, "gallery", known, faults)
    images = [(dataset.name, image.name) for dataset in test_sets for image in dataset.images]
    places, crops = [], gallery["crops"] or ()
    if not isinstance(crops, (list, tuple)):
        faults.append(f"gallery:crops must be a list of mappings with the keys {', '.join(CROP_KEYS)}; got {crops!r}")
        crops = ()
    for crop in crops:
        fits = isinstance(crop, Mapping) and set(crop) == set(CROP_KEYS)
        if not fits or not all(type(crop[key]) is int and crop[key] >= 0 for key in ("left", "top")):
            need = f"the keys {', '.join(CROP_KEYS)} with whole numbers >= 0 for left and top"
            faults.append(f"an item of gallery:crops needs {need}; got {crop!r}")
        elif (crop["set"], crop["image"]) not in images:
            faults.append(f"gallery:crops: there is no image {crop['image']!r} in the set {crop['set']!r}")
        else:
            places.append(CropPlace(*(crop[key] for key in CROP_KEYS)))
    return GalleryOptions(gallery["count"], gallery["size"], tuple(places))


def _find_device(num_gpu: Any) -> torch.device:
    if num_gpu != "auto" and (type(num_gpu) is not int or num_gpu < 0):
        raise UserError(f"num_gpu must be auto or a whole number >= 0; got {num_gpu!r}")
    return torch.device("cuda" if num_gpu != 0 and torch.cuda.is_available() else "cpu")
