"""Make the data sets for training and testing from a folder of HR images.

At scale 4, the data sets are GT_x4 and LR_BIx4 (complete images), GT_sub_x4 and LR_sub_BIx4 (sub-images), and LMDBs of
the sub-images. Each scale has its own GT images, because HR images are cropped to multiples of the scale.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.degradation import ScaledDegradation, mod_crop
from han_arch.data.lmdb_store import CONTINUE, LmdbStore
from han_arch.data.parallel import work_through
from han_arch.data.stores import FolderStore, Store
from han_arch.errors import UserError
from han_arch.files import clear_refusal
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image, list_files, read_image
from han_arch.images.write import encode_png
from han_arch.locks import held

# Product -> the parts of its folder name before and after the scale. Sub-images are called NAME_s001, also in LMDBs.
PRODUCTS = {"images": ("", ""), "sub": ("_sub", ""), "lmdb": ("_sub", ".lmdb")}
GREY_POLICIES = ("refuse", "keep", "rgb")  # stop at a grey file, keep it grey, convert it to three equal channels
LQ_PATCH = 48  # side in LR pixels of the patches that HAN is trained on
_Content = tuple[str, bool]  # side ("GT" or "LR"), and whether the images are sub-images


def set_names(product: str, degradation: ScaledDegradation) -> tuple[str, str]:
    """Return the folder names of the GT set and the LR set, such as GT_sub_x4.lmdb and LR_sub_BIx4.lmdb.

    `product` is the kind of data set, a key of `PRODUCTS`.
    """
    sub, ending = PRODUCTS[product]
    return f"GT{sub}_x{degradation.scale}{ending}", f"LR{sub}_{degradation.name}{ending}"


@dataclass(frozen=True)
class CropGrid:
    """Overlapping square windows that divide an HR image into sub-images."""

    size: int = 480  # side of each window in HR pixels
    step: int = 240  # distance between the starts of neighbouring windows in HR pixels

    def check(self, scale: int) -> None:
        """Raise UserError if size or step is not a positive multiple of `scale`; the message suggests valid values."""
        for name, value in (("crop size", self.size), ("step", self.step)):
            if value < 1 or value % scale:
                below = max(value - value % scale, scale)
                advice = f"use {below} or {below + scale}"
                raise UserError(f"{name} {value} is not a positive multiple of scale {scale}; {advice}")

    def spans(self, length: int) -> list[slice]:
        """Return the windows along a side. The last one ends at the edge. A side up to `size` pixels has one window."""
        last = max(length - self.size, 0)
        return [slice(start, min(start + self.size, length)) for start in sorted({*range(0, last, self.step), last})]

    def windows(self, stem: str, height: int, width: int) -> dict[str, tuple[slice, slice]]:
        """Return an image's windows, row by row: {name, such as 0001_s001: (slice of rows, slice of columns)}."""
        windows = itertools.product(self.spans(height), self.spans(width))
        return {f"{stem}_s{number:03d}": window for number, window in enumerate(windows, 1)}

    def at_lr(self, scale: int) -> "CropGrid":
        """Convert the grid from HR pixels to LR pixels; size and step must be multiples of `scale`."""
        return CropGrid(self.size // scale, self.step // scale)


@dataclass(frozen=True)
class Recipe:
    """The settings of `prepare`: which products (kinds of data sets) it makes, and how."""

    products: Sequence[str] = tuple(PRODUCTS)  # keys of `PRODUCTS`
    grid: CropGrid = field(default_factory=CropGrid)
    grey: str = "refuse"  # one of `GREY_POLICIES`
    patch: int | None = None  # side of a training patch in HR pixels; None: `LQ_PATCH` times the scale

    @property
    def has_sub_images(self) -> bool:
        """True if the recipe makes at least one data set of sub-images."""
        return bool({"sub", "lmdb"} & set(self.products))

    def patch_at(self, scale: int) -> int:
        """Return the side of a training patch for a scale, in HR pixels."""
        return LQ_PATCH * scale if self.patch is None else self.patch

    def check(self, scale: int) -> None:
        """Raise UserError if a window, step or patch size is not a multiple of `scale`, or a patch exceeds a window."""
        patch = self.patch_at(scale)
        if self.has_sub_images:
            self.grid.check(scale)
        if patch % scale:
            raise UserError(f"training patch {patch} is not a multiple of scale {scale}; change --gt-size")
        if self.has_sub_images and self.grid.size < patch:
            sizes = f"crop size {self.grid.size} is smaller than the training patch {patch}"
            raise UserError(f"{sizes}; increase --crop-size or reduce --gt-size")


def prepare(
    hr_folder: Path, out: Path, degradations: Sequence[ScaledDegradation], recipe: Recipe, workers: int
) -> list[Path]:
    """Make the data sets of all degradations in `out`, or continue an earlier run. Return the paths of the data sets.

    Raises:
        UserError: a size in the recipe is invalid for one of the scales; HR files cannot be used (the message lists
            all of them); `out` contains data sets that were made with other settings; another process makes one of
            the data sets; or the disk is full.
    """
    for degradation in degradations:
        recipe.check(degradation.scale)
    largest_patch = max(recipe.patch_at(degradation.scale) for degradation in degradations)
    sources = _check_sources(hr_folder, recipe.grey, largest_patch, workers)
    planned = [_plan_sets(sources, out, degradation, recipe) for degradation in degradations]
    paths = [one.store.path for sets in planned for one in sets]
    with ExitStack() as stack:
        for path in dict.fromkeys(paths):  # GT sets of BI and BD are the same
            stack.enter_context(held(path, f"data prepare of {path}"))
        stack.enter_context(clear_refusal(out, CONTINUE, no_room_only=True))
        for degradation, sets in zip(degradations, planned, strict=True):
            for one in sets:
                stack.callback(one.store.close)
            _make_sets(sets, degradation, recipe, workers)
    return paths


@dataclass(frozen=True)
class _Source:
    path: Path
    height: int
    width: int
    sha256: str  # hash of the file


def _check_sources(folder: Path, grey: str, min_side: int, workers: int) -> list[_Source]:
    """Decode all HR images; return them sorted by file name. Raise UserError with one line per unusable file."""
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist or is not a folder")
    paths = list_files(folder)
    if not paths:
        inside = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        hint = f"; it contains the folders {', '.join(inside[:5])}; pass the folder with the images" if inside else ""
        raise UserError(f"{folder} contains no image{hint}")
    problems, sources = _name_problems(paths), []
    check = partial(_check_source, grey=grey, min_side=min_side)
    for path, result in work_through(check, paths, workers, "check"):
        if isinstance(result, _Source):
            sources.append(result)
        else:
            problems[path].append(result)
    if problems:
        lines = [f"\n  {path.name}: {'; '.join(problems[path])}" for path in sorted(problems)]
        raise UserError(f"{len(problems)} of {len(paths)} files in {folder} cannot be used:{''.join(lines)}")
    return sorted(sources, key=lambda source: source.path)


def _name_problems(paths: list[Path]) -> defaultdict[Path, list[str]]:
    problems: defaultdict[Path, list[str]] = defaultdict(list)
    first_of: dict[str, Path] = {}
    for path in paths:
        if "." in path.stem:
            reason = "the name has more than one dot (BasicSR cuts LMDB keys at the first dot)"
            problems[path].append(f"{reason}; rename the file")
        if not path.stem.isascii() or any(letter.isspace() for letter in path.stem):
            reason = "the name has a space or a non-ASCII letter (not allowed in LMDB keys of BasicSR)"
            problems[path].append(f"{reason}; rename the file")
        first = first_of.setdefault(path.stem, path)
        if first != path:
            problems[path].append(f"same name as {first.name} except for the extension; rename one of the two files")
    return problems


def _check_source(path: Path, grey: str, min_side: int) -> _Source | str:
    """Decode an HR image. Return its path, size and hash, or the reason why the image cannot be used."""
    data = path.read_bytes()
    try:
        pixels = decode_image(data)
    except ImageError as error:
        return str(error)
    height, width = pixels.shape[:2]
    if pixels.ndim == 2 and grey == "refuse":
        return "grey image; pass --grey rgb to convert it to three equal channels, or --grey keep to keep it grey"
    if min(height, width) < min_side:
        patch = f"{min_side}x{min_side} pixels"
        return f"{width}x{height} is smaller than a training patch of {patch}; remove the file or lower --gt-size"
    return _Source(path, height, width, hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class _PlannedSet:
    store: Store
    content: _Content
    names: dict[Path, list[str]]  # HR file -> names of the images to make from it

    def all_names(self) -> set[str]:
        return set(itertools.chain.from_iterable(self.names.values()))


def _plan_sets(sources: list[_Source], out: Path, degradation: ScaledDegradation, recipe: Recipe) -> list[_PlannedSet]:
    # The settings of a store determine all its images; a later run continues the data set only with equal settings.
    scale, grid = degradation.scale, recipe.grid
    whole, subs = {}, {}
    for source in sources:
        whole[source.path] = [source.path.stem]
        if recipe.has_sub_images:
            height, width = source.height - source.height % scale, source.width - source.width % scale
            subs[source.path] = list(grid.windows(source.path.stem, height, width))
    listing = "".join(f"{source.path.stem} {source.sha256}\n" for source in sources)
    common: dict[str, object] = {"hr_images": hashlib.sha256(listing.encode()).hexdigest(), "scale": scale}
    common |= {"grey": recipe.grey} if recipe.grey != "refuse" else {}
    sets = []
    for index, side in enumerate(("GT", "LR")):
        for product in [product for product in PRODUCTS if product in recipe.products]:
            has_subs = product != "images"
            names = subs if has_subs else whole
            settings = common | ({"degradation": degradation.name} if side == "LR" else {})
            settings |= {"crop_size": grid.size, "step": grid.step} if has_subs else {}
            settings["count"] = sum(map(len, names.values()))
            store = LmdbStore if product == "lmdb" else FolderStore
            path = out / set_names(product, degradation)[index]
            sets.append(_PlannedSet(store(path, settings), (side, has_subs), names))
    return sets


def _make_sets(sets: Sequence[_PlannedSet], degradation: ScaledDegradation, recipe: Recipe, workers: int) -> None:
    unfinished = [one for one in sets if not one.store.is_whole(one.all_names())]
    todo: defaultdict[Path, list[_PlannedSet]] = defaultdict(list)
    for one in unfinished:
        there = one.store.begin()
        for path, names in one.names.items():
            if not there.issuperset(names):
                todo[path].append(one)
    make = partial(_make_images, degradation=degradation, recipe=recipe)
    for path, images in work_through(make, sorted(todo), workers, degradation.name):
        for one in todo[path]:
            one.store.put(images[one.content])
    for one in unfinished:
        one.store.finish(one.all_names())


def _make_images(path: Path, degradation: ScaledDegradation, recipe: Recipe) -> dict[_Content, dict[str, bytes]]:
    """Make all images of one HR file. Return {("GT" or "LR", True for sub-images): {image name: PNG bytes}}."""
    pixels = read_image(path)
    if pixels.ndim == 2 and recipe.grey == "rgb":
        pixels = np.stack([pixels] * 3, axis=2)
    gt = mod_crop(pixels, degradation.scale)
    lq = degradation.degrade(gt)
    images = {}
    for side, image, grid in (("GT", gt, recipe.grid), ("LR", lq, recipe.grid.at_lr(degradation.scale))):
        if "images" in recipe.products:
            images[side, False] = {path.stem: encode_png(image)}
        if recipe.has_sub_images:
            windows = grid.windows(path.stem, *image.shape[:2])
            images[side, True] = {name: encode_png(image[at]) for name, at in windows.items()}
    return images
