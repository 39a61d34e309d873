"""Crops for the page: where the models differ most, or where the user says, cut from HR and every model's image."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from han_arch.evaluation import score
from han_arch.evaluation.score_cache import ScoreCache
from han_arch.evaluation.sets import EvaluationSet
from han_arch.images.strict import encode_png

KEYS = ("count", "size", "crops")
CROP_KEYS = ("set", "image", "left", "top")


@dataclass(frozen=True)
class Place:
    """A square of an image: top left corner in HR pixels."""

    dataset: str
    image: str
    left: int
    top: int


@dataclass(frozen=True)
class GalleryOptions:
    """How many crops are chosen, their side in HR pixels, and the user's own places, which then stand alone."""

    count: int = 6
    size: int = 96
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One image of a set as a model made it: `picture` is its key in the cache."""

    label: str
    dataset: str
    image: str
    picture: str
    cell: str


@dataclass(frozen=True)
class Crop:
    """One crop: `versions` are (label, score of the whole image as text, PNG as a data address), HR first."""

    place: Place
    size: int
    versions: tuple[tuple[str, str, str], ...]


def check_options(options: Any, sets: Sequence[EvaluationSet]) -> tuple[GalleryOptions, list[str]]:
    """The `gallery` mapping of an option file, and one line for each thing that is wrong with it."""
    if not isinstance(options, Mapping):
        return GalleryOptions(), [f"gallery must be a mapping; got {options!r}"]
    faults = [f"gallery has no option {key!r}; there are {', '.join(KEYS)}" for key in options if key not in KEYS]
    count, size = options.get("count", GalleryOptions.count), options.get("size", GalleryOptions.size)
    for name, value, least in (("count", count, 0), ("size", size, 16)):
        if type(value) is not int or value < least:
            faults.append(f"gallery:{name} must be a whole number from {least}; got {value!r}")
    if faults:
        return GalleryOptions(), faults
    known = {(dataset.name, pair.name) for dataset in sets for pair in dataset.pairs}
    places = []
    for crop in options.get("crops") or ():
        fits = isinstance(crop, Mapping) and set(crop) == set(CROP_KEYS)
        if not fits or not all(type(crop[key]) is int and crop[key] >= 0 for key in ("left", "top")):
            faults.append(f"gallery:crops wants {', '.join(CROP_KEYS)} (pixels from 0) of each; got {crop!r}")
        elif (crop["set"], crop["image"]) not in known:
            faults.append(f"gallery:crops: no image {crop['image']!r} in set {crop['set']!r}")
        else:
            places.append(Place(crop["set"], crop["image"], crop["left"], crop["top"]))
    return GalleryOptions(count, size, tuple(places)), faults


def choose(images: Mapping[str, np.ndarray], size: int) -> tuple[int, int, float]:
    """Where images of the same thing differ most.

    Args:
        images: label -> uint8, (h, w, 3) or (h, w), all of one size.
        size: side of the square in pixels; cut to the image.

    Returns:
        Left and top of the square with the largest mean of (largest - smallest grey value), and that mean in levels.
    """
    grey = np.stack([score.as_rgb(image).astype(np.float32).mean(axis=2) for image in images.values()])
    spread = grey.max(axis=0) - grey.min(axis=0)
    side_y, side_x = min(size, spread.shape[0]), min(size, spread.shape[1])
    total = cv2.integral(spread)
    sums = total[side_y:, side_x:] - total[:-side_y, side_x:] - total[side_y:, :-side_x] + total[:-side_y, :-side_x]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(left), int(top), float(sums.max() / (side_y * side_x))


def make(
    options: GalleryOptions, sets: Sequence[EvaluationSet], candidates: Sequence[Candidate], cache: ScoreCache
) -> list[Crop]:
    """Cut the crops.

    Args:
        options: which and how many.
        sets: for HR.
        candidates: every model's images, in the order to show. Bicubic is shown and takes no part in the choice,
            unless there is only one other model.
        cache: has the images.
    """
    by_image: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        by_image.setdefault((candidate.dataset, candidate.image), []).append(candidate)
    places = list(options.places) or _places(options, by_image, cache)
    pairs = {(dataset.name, pair.name): (dataset, pair) for dataset in sets for pair in dataset.pairs}
    crops = []
    for place in places:
        dataset, pair = pairs[place.dataset, place.image]
        _, gt = pair.load(dataset.protocol)
        place = _inside(place, gt, options.size)
        versions = [("HR", "", _cut(gt, place, options.size))]
        for candidate in by_image.get((place.dataset, place.image), ()):
            cut = _cut(cache.load_picture(candidate.picture), place, options.size)
            versions.append((candidate.label, candidate.cell, cut))
        crops.append(Crop(place, options.size, tuple(versions)))
    return crops


def _places(
    options: GalleryOptions, by_image: Mapping[tuple[str, str], list[Candidate]], cache: ScoreCache
) -> list[Place]:
    if options.count == 0:
        return []
    found: list[tuple[float, Place]] = []
    for (dataset, image), candidates in by_image.items():
        networks = [candidate for candidate in candidates if candidate.label != "Bicubic"]
        compared = networks if len(networks) > 1 else candidates
        left, top, spread = choose({c.label: cache.load_picture(c.picture) for c in compared}, options.size)
        found.append((spread, Place(dataset, image, left, top)))
    found.sort(key=lambda item: -item[0])
    # As many of each set as go, so that one set of hard images does not fill the page.
    datasets = {place.dataset for _, place in found}
    each = max(1, -(-options.count // len(datasets))) if datasets else 0
    taken: list[Place] = []
    for _, place in found:
        if len(taken) < options.count and sum(other.dataset == place.dataset for other in taken) < each:
            taken.append(place)
    return taken


def _inside(place: Place, gt: np.ndarray, size: int) -> Place:
    height, width = gt.shape[:2]
    return Place(
        place.dataset, place.image, max(0, min(place.left, width - size)), max(0, min(place.top, height - size))
    )


def _cut(image: np.ndarray, place: Place, size: int) -> str:
    part = image[place.top : place.top + size, place.left : place.left + size]
    return "data:image/png;base64," + base64.b64encode(encode_png(np.ascontiguousarray(part))).decode("ascii")
