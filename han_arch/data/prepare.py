"""Make the data sets for training and testing from a folder of HR images.

At scale 4, these are GT_x4 and LR_BIx4 (complete images), GT_sub_x4 and LR_sub_BIx4 (sub-images), and LMDBs of the
sub-images. The names at other scales and for BD follow the same pattern. Each scale has its own GT images, because the
HR images are cropped to sides that are multiples of the scale.
"""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.degradation import ScaledDegradation, mod_crop
from han_arch.data.image_sets import Source, check_sources
from han_arch.data.parallel import work_through
from han_arch.data.stores import FolderStore, LmdbStore, Store
from han_arch.errors import UserError
from han_arch.images.read import read_image
from han_arch.images.write import encode_png

# Product -> the parts of its folder name before and after the scale. Sub-images are called NAME_s001, also in LMDBs.
PRODUCTS = {"images": ("", ""), "sub": ("_sub", ""), "lmdb": ("_sub", ".lmdb")}
LQ_PATCH = 48  # side in LR pixels of the patches that HAN is trained on


def set_names(product: str, degradation: ScaledDegradation) -> tuple[str, str]:
    """Return the folder names of a product's GT and LR images, such as GT_sub_x4.lmdb and LR_sub_BIx4.lmdb."""
    sub, ending = PRODUCTS[product]
    return f"GT{sub}_x{degradation.scale}{ending}", f"LR{sub}_{degradation.name}{ending}"


@dataclass(frozen=True)
class CropGrid:
    """Overlapping square windows that divide an HR image into sub-images.

    Attributes:
        size: side of each window in HR pixels.
        step: distance between the starts of neighbouring windows in HR pixels.
    """

    size: int = 480
    step: int = 240

    def check(self, scale: int) -> None:
        """Raise UserError if size or step is not a positive multiple of `scale`; the message suggests valid values."""
        for name, value in (("crop size", self.size), ("step", self.step)):
            if value < 1 or value % scale:
                below = max(value - value % scale, scale)
                raise UserError(
                    f"{name} {value} is not a positive multiple of scale {scale}; use {below} or {below + scale}"
                )

    def spans(self, length: int) -> list[slice]:
        """Return the windows along one side of an image; the last window ends at the edge of the image.

        If the side is shorter than a window, return one window with the length of the side.
        """
        last = max(length - self.size, 0)
        return [slice(start, min(start + self.size, length)) for start in sorted({*range(0, last, self.step), last})]

    def windows(self, stem: str, height: int, width: int) -> dict[str, tuple[slice, slice]]:
        """Return the windows (rows, columns) of an image, keyed by sub-image name, such as 0001_s001.

        The windows are numbered row by row. BasicSR's script for sub-images gives the same names.
        """
        windows = itertools.product(self.spans(height), self.spans(width))
        return {f"{stem}_s{number:03d}": window for number, window in enumerate(windows, 1)}

    def at_lr(self, scale: int) -> "CropGrid":
        """Return the grid that gives the same windows in LR pixels; size and step must be multiples of `scale`."""
        return CropGrid(self.size // scale, self.step // scale)


@dataclass(frozen=True)
class Recipe:
    """The products that `prepare` makes from each HR image, and their settings.

    Attributes:
        products: keys of `PRODUCTS`: "images" (complete images), "sub" (sub-images), "lmdb" (LMDBs of sub-images).
        grid: the windows of the sub-images.
        grey: how to treat grey files, one of `image_sets.GREY_POLICIES`.
        patch: side of a training patch in HR pixels; smaller HR images are an error. None: `LQ_PATCH` times the scale.
    """

    products: Sequence[str] = tuple(PRODUCTS)
    grid: CropGrid = field(default_factory=CropGrid)
    grey: str = "refuse"
    patch: int | None = None

    @property
    def has_sub_images(self) -> bool:
        """Whether any product consists of sub-images."""
        return bool({"sub", "lmdb"} & set(self.products))

    def patch_at(self, scale: int) -> int:
        """Return the side of a training patch in HR pixels at a scale."""
        return LQ_PATCH * scale if self.patch is None else self.patch

    def check(self, scale: int) -> None:
        """Raise UserError if windows or training patch do not fit the scale, or if a window is smaller than a patch."""
        patch = self.patch_at(scale)
        if self.has_sub_images:
            self.grid.check(scale)
        if patch % scale:
            raise UserError(f"training patch {patch} is not a multiple of scale {scale}; change --gt-size")
        if self.has_sub_images and self.grid.size < patch:
            sizes = f"crop size {self.grid.size} is smaller than the training patch {patch}"
            raise UserError(f"{sizes}; increase --crop-size or reduce --gt-size")


@dataclass(frozen=True)
class PlannedSet:
    """A data set that `prepare` must make.

    Attributes:
        store: folder or LMDB for the images.
        content: side and kind of the images. The side is "GT" or "LR". The second value is True for sub-images, and
            False for complete images. `make_images` returns a dict with these keys.
        names: HR file -> names of the images to make from it.
    """

    store: Store
    content: tuple[str, bool]
    names: dict[Path, list[str]]

    def all_names(self) -> set[str]:
        """Return the names of all images in the finished data set."""
        return {name for names in self.names.values() for name in names}


def prepare(
    hr_folder: Path, out: Path, degradations: Sequence[ScaledDegradation], recipe: Recipe, workers: int
) -> list[Path]:
    """Make the data sets of all degradations, or continue where an earlier run stopped.

    Args:
        hr_folder: folder with the HR images.
        out: folder for the data sets.
        degradations: the degradations, one for each scale.
        recipe: products and their settings.
        workers: number of worker processes.

    Returns:
        Folders of the data sets, including those that an earlier run finished.

    Raises:
        UserError: the window or patch size does not fit the scale, HR files are unusable (the message lists all of
            them), or `out` contains data sets that were made with other settings.
    """
    for degradation in degradations:
        recipe.check(degradation.scale)
    largest_patch = max(recipe.patch_at(degradation.scale) for degradation in degradations)
    sources = check_sources(hr_folder, recipe.grey, largest_patch, workers)
    planned = [plan_sets(sources, out, degradation, recipe) for degradation in degradations]
    for degradation, sets in zip(degradations, planned, strict=True):
        _make_sets(sets, degradation, recipe, workers)
    return [one.store.path for sets in planned for one in sets]


def plan_sets(sources: Sequence[Source], out: Path, degradation: ScaledDegradation, recipe: Recipe) -> list[PlannedSet]:
    """List the data sets to make for one degradation. The settings of each store determine all its images."""
    scale, grid = degradation.scale, recipe.grid
    whole, subs = {}, {}
    for source in sources:
        height, width = source.height - source.height % scale, source.width - source.width % scale
        whole[source.path] = [source.path.stem]
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
            sets.append(PlannedSet(store(path, settings), (side, has_subs), names))
    return sets


def _make_sets(sets: Sequence[PlannedSet], degradation: ScaledDegradation, recipe: Recipe, workers: int) -> None:
    unfinished = [one for one in sets if not one.store.is_whole(one.all_names())]
    todo: dict[Path, list[PlannedSet]] = {}
    for one in unfinished:
        there = one.store.begin()
        for path, names in one.names.items():
            if not there.issuperset(names):
                todo.setdefault(path, []).append(one)
    make = partial(make_images, degradation=degradation, recipe=recipe)
    for path, images in work_through(make, sorted(todo), workers, degradation.name):
        for one in todo[path]:
            one.store.put(images[one.content])
    for one in unfinished:
        one.store.finish(one.all_names())


def make_images(path: Path, degradation: ScaledDegradation, recipe: Recipe) -> dict[tuple[str, bool], dict[str, bytes]]:
    """Make all GT and LR images from one HR file.

    Returns:
        A dict with the keys of `PlannedSet.content`. Each value is a dict: image name -> PNG bytes.
    """
    scale = degradation.scale
    pixels = read_image(path)
    if pixels.ndim == 2 and recipe.grey == "rgb":
        pixels = np.stack([pixels] * 3, axis=2)
    gt = mod_crop(pixels, scale)
    lq = degradation.degrade(gt)
    images = {}
    if "images" in recipe.products:
        images["GT", False] = {path.stem: encode_png(gt)}
        images["LR", False] = {path.stem: encode_png(lq)}
    if recipe.has_sub_images:
        for side, image, grid in (("GT", gt, recipe.grid), ("LR", lq, recipe.grid.at_lr(scale))):
            windows = grid.windows(path.stem, *image.shape[:2])
            images[side, True] = {name: encode_png(image[at]) for name, at in windows.items()}
    return images
