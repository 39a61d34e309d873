"""Make everything that training and testing at a scale need from a folder of HR images.

Layout of the output folder OUT, for scale 4 and bicubic LR (BIx4; x2, x3, x8, BDx3 likewise):

    OUT/GT_x4/NAME.png                    HR, cut to sides that are multiples of 4
    OUT/LR_BIx4/NAME.png                  its LR, same file name
    OUT/GT_sub_x4/NAME_s001.png           HR sub-images, 480 x 480, step 240
    OUT/LR_sub_BIx4/NAME_s001.png         the same places of the LR image
    OUT/GT_sub_x4.lmdb                    the sub-images once more as LMDBs, keys NAME_s001, with meta_info.txt
    OUT/LR_sub_BIx4.lmdb

Each scale has its own GT, since x2, x3 and x4 cut the image at different places. An unfinished folder is called
NAME.partial; the same command continues it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from han_arch.data.degradation import ScaledDegradation, mod_crop
from han_arch.data.image_sets import Source, check_sources, load_source
from han_arch.data.lmdb_store import LmdbStore
from han_arch.data.parallel import work_through
from han_arch.data.stores import FolderStore, Store
from han_arch.errors import UserError
from han_arch.images.write import encode_png

PRODUCTS = ("images", "sub", "lmdb")
LQ_PATCH = 48  # the LR patch that HAN is trained with


@dataclass(frozen=True)
class CropGrid:
    """Overlapping square windows over an HR image.

    Attributes:
        size: side of a window in HR pixels.
        step: distance between neighbouring windows in HR pixels.
    """

    size: int = 480
    step: int = 240

    def check(self, scale: int) -> None:
        """Raise UserError if size or step is not a positive multiple of `scale`; name the nearest legal values."""
        for name, value in (("crop size", self.size), ("step", self.step)):
            if value < 1 or value % scale:
                below = max(value - value % scale, scale)
                raise UserError(
                    f"{name} {value} is not a multiple of scale {scale}; the nearest are {below}, {below + scale}"
                )

    def starts(self, length: int) -> list[int]:
        """Return the first pixels of the windows along a side; the last window ends flush with the side.

        A side shorter than the window gives one window, the whole side. The side of a mod-cropped image gives starts
        that are multiples of the scale.
        """
        if length <= self.size:
            return [0]
        return sorted({*range(0, length - self.size + 1, self.step), length - self.size})

    def windows(self, height: int, width: int) -> list[tuple[slice, slice]]:
        """Return row and column slices of all windows of an image, row by row."""
        return [
            (slice(top, min(top + self.size, height)), slice(left, min(left + self.size, width)))
            for top in self.starts(height)
            for left in self.starts(width)
        ]


def sub_image_names(stem: str, count: int) -> list[str]:
    """Name an image's sub-images, without extension, numbered from 1 as BasicSR's script does: 0001_s001."""
    return [f"{stem}_s{number:03d}" for number in range(1, count + 1)]


def shrink(window: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """Return the LR window of an HR window; the bounds of the HR window must be multiples of `scale`."""
    rows, columns = (slice(side.start // scale, side.stop // scale) for side in window)
    return rows, columns


@dataclass(frozen=True)
class Recipe:
    """The products of every HR image and their settings.

    Attributes:
        products: which of `PRODUCTS`: whole images, sub-images, LMDBs of sub-images.
        grid: the windows of the sub-images.
        grey: the treatment of grey files, one of `image_sets.GREY_POLICIES`.
        patch: training patch in HR pixels that every image must contain; None means `LQ_PATCH` times the scale.
    """

    products: Sequence[str] = PRODUCTS
    grid: CropGrid = field(default_factory=CropGrid)
    grey: str = "refuse"
    patch: int | None = None

    @property
    def has_sub_images(self) -> bool:
        """Whether any product consists of sub-images."""
        return bool({"sub", "lmdb"} & set(self.products))

    def patch_at(self, scale: int) -> int:
        """Return the training patch in HR pixels at a scale."""
        return LQ_PATCH * scale if self.patch is None else self.patch

    def check(self, scale: int) -> None:
        """Raise UserError if the windows or the training patch do not fit the scale or each other."""
        patch = self.patch_at(scale)
        if self.has_sub_images:
            self.grid.check(scale)
        if patch % scale:
            raise UserError(f"training patch {patch} is not a multiple of scale {scale}")
        if self.has_sub_images and self.grid.size < patch:
            raise UserError(f"crop size {self.grid.size} is smaller than the training patch {patch}")


@dataclass(frozen=True)
class Product:
    """One of the data sets of the layout.

    Attributes:
        store: where its images are written.
        side: "GT" or "LR".
        sub: whether it holds sub-images.
        names: the names of its images, by HR file.
    """

    store: Store
    side: str
    sub: bool
    names: dict[Path, list[str]]

    def all_names(self) -> set[str]:
        """Return the names of all images that it has when it is whole."""
        return {name for names in self.names.values() for name in names}


def prepare(
    hr_folder: Path, out: Path, degradations: Sequence[ScaledDegradation], recipe: Recipe, workers: int
) -> list[Path]:
    """Make the data sets of every degradation, or continue where an earlier run stopped.

    Args:
        hr_folder: the HR images.
        out: the output folder; gets the layout above.
        degradations: one for each scale.
        recipe: products and their settings.
        workers: processes.

    Returns:
        The finished data sets: new ones, and those that were already whole.

    Raises:
        UserError: sizes that do not fit the scale, unusable HR files (all of them), or other results in `out`.
    """
    for degradation in degradations:
        recipe.check(degradation.scale)
    largest_patch = max(recipe.patch_at(degradation.scale) for degradation in degradations)
    sources = check_sources(hr_folder, recipe.grey, largest_patch, workers)
    made = []
    for degradation in degradations:
        made += _prepare_scale(sources, out, degradation, recipe, workers)
    return made


def plan_products(
    sources: Sequence[Source], out: Path, degradation: ScaledDegradation, recipe: Recipe
) -> list[Product]:
    """List the products of one degradation; the settings of each hold everything that decides its content."""
    scale = degradation.scale
    listing = "".join(f"{source.path.stem} {source.sha256}\n" for source in sources)
    common: dict[str, object] = {"hr_images": hashlib.sha256(listing.encode()).hexdigest(), "scale": scale}
    common |= {"grey": recipe.grey} if recipe.grey != "refuse" else {}
    whole = {source.path: [source.path.stem] for source in sources}
    subs = {source.path: _sub_names(source, scale, recipe.grid) for source in sources}
    count = {"count": sum(len(names) for names in subs.values())}
    grid = {"crop_size": recipe.grid.size, "step": recipe.grid.step} | count
    products = []
    for side, label, settings in (
        ("GT", f"x{scale}", common),
        ("LR", degradation.name, common | {"degradation": degradation.name}),
    ):
        if "images" in recipe.products:
            store = FolderStore(out / f"{side}_{label}", settings | {"count": len(whole)})
            products.append(Product(store, side, False, whole))
        if "sub" in recipe.products:
            products.append(Product(FolderStore(out / f"{side}_sub_{label}", settings | grid), side, True, subs))
        if "lmdb" in recipe.products:
            products.append(Product(LmdbStore(out / f"{side}_sub_{label}.lmdb", settings | grid), side, True, subs))
    return products


def _sub_names(source: Source, scale: int, grid: CropGrid) -> list[str]:
    height, width = source.height - source.height % scale, source.width - source.width % scale
    return sub_image_names(source.path.stem, len(grid.windows(height, width)))


def _prepare_scale(
    sources: Sequence[Source], out: Path, degradation: ScaledDegradation, recipe: Recipe, workers: int
) -> list[Path]:
    products = plan_products(sources, out, degradation, recipe)
    unfinished = [product for product in products if not product.store.is_whole(product.all_names())]
    todo: dict[Path, list[Product]] = {}
    for product in unfinished:
        there = product.store.begin()
        for path, names in product.names.items():
            if not there.issuperset(names):
                todo.setdefault(path, []).append(product)
    make = partial(make_images, degradation=degradation, recipe=recipe)
    for path, images in work_through(make, sorted(todo), workers, degradation.name):
        for product in todo[path]:
            product.store.put(images[product.side, product.sub])
    for product in unfinished:
        product.store.finish(product.all_names())
    return [product.store.path for product in products]


def make_images(path: Path, degradation: ScaledDegradation, recipe: Recipe) -> dict[tuple[str, bool], dict[str, bytes]]:
    """Make all images of one HR image, as PNG bytes.

    Args:
        path: the HR file.
        degradation: makes the LR.
        recipe: products, sub-image grid, grey files.

    Returns:
        PNG bytes by name, for each (side, whether sub-images); sides are GT and LR.
    """
    gt = mod_crop(load_source(path, recipe.grey), degradation.scale)
    lq = degradation.degrade(gt)
    images = {}
    if "images" in recipe.products:
        images["GT", False] = {path.stem: encode_png(gt)}
        images["LR", False] = {path.stem: encode_png(lq)}
    if recipe.has_sub_images:
        windows = recipe.grid.windows(*gt.shape[:2])
        names = sub_image_names(path.stem, len(windows))
        scale = degradation.scale
        images["GT", True] = {name: encode_png(gt[at]) for name, at in zip(names, windows, strict=True)}
        images["LR", True] = {name: encode_png(lq[shrink(at, scale)]) for name, at in zip(names, windows, strict=True)}
    return images
