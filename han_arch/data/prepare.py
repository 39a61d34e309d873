"""From a folder of HR images to everything that training and testing at a scale need.

Layout of the output folder OUT, for scale 4 and bicubic LR (BIx4; x2, x3, x8, BDx3 likewise):

    OUT/GT_x4/NAME.png                    HR, cut to sides that are multiples of 4
    OUT/LR_BIx4/NAME.png                  its LR, same file name
    OUT/GT_sub_x4/NAME_s001.png           HR sub-images, 480 x 480, step 240
    OUT/LR_sub_BIx4/NAME_s001.png         the same places of the LR image
    OUT/GT_sub_x4.lmdb                    the sub-images once more as LMDBs, keys NAME_s001, with meta_info.txt
    OUT/LR_sub_BIx4.lmdb

GT stands once for each scale, since x2, x3 and x4 cut the image at different places. A folder that is not finished is
called NAME.partial; the same command goes on from it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from han_arch.data.crops import CropGrid, shrink, sub_image_names
from han_arch.data.degradation import Degradation, mod_crop
from han_arch.data.images import encode_png
from han_arch.data.lmdb_store import LmdbStore
from han_arch.data.parallel import work_through
from han_arch.data.sources import Source, check_sources, load_source
from han_arch.data.stores import FolderStore, Store
from han_arch.errors import UserError

PRODUCTS = ("images", "sub", "lmdb")


@dataclass(frozen=True)
class Recipe:
    """What is made of every HR image.

    Attributes:
        products: which of `PRODUCTS`: whole images, sub-images, LMDBs of sub-images.
        grid: where the sub-images lie.
        grey: what to do with grey files, one of `sources.GREY_POLICIES`.
    """

    products: Sequence[str] = PRODUCTS
    grid: CropGrid = field(default_factory=CropGrid)
    grey: str = "refuse"


@dataclass(frozen=True)
class Product:
    """One of the data sets of the layout: its store, its side (GT or LR), and whether it holds sub-images."""

    store: Store
    side: str
    sub: bool

    def names(self, source: Source, grid: CropGrid, scale: int) -> list[str]:
        """What the product has of an HR image."""
        if not self.sub:
            return [source.stem]
        height, width = source.height - source.height % scale, source.width - source.width % scale
        return sub_image_names(source.stem, len(grid.windows(height, width)))


def prepare(
    hr_folder: Path,
    out: Path,
    degradations: Sequence[Degradation],
    recipe: Recipe,
    patches: Sequence[int],
    workers: int,
) -> list[Path]:
    """Make the data sets of every degradation, or go on where an earlier run stopped.

    Args:
        hr_folder: the HR images.
        out: gets the layout above.
        degradations: one for each scale.
        recipe: what to make of an image.
        patches: for each degradation, the training patch in HR pixels that every image must contain.
        workers: processes.

    Returns:
        The finished data sets, made now or found whole.

    Raises:
        UserError: sizes that do not fit the scale, unusable HR files (all of them), or other results in `out`.
    """
    for degradation, patch in zip(degradations, patches, strict=True):
        if {"sub", "lmdb"} & set(recipe.products):
            recipe.grid.check(degradation.scale)
        if patch % degradation.scale:
            raise UserError(f"training patch {patch} is not a multiple of scale {degradation.scale}")
        if {"sub", "lmdb"} & set(recipe.products) and recipe.grid.size < patch:
            raise UserError(f"crop size {recipe.grid.size} is smaller than the training patch {patch}")
    sources = check_sources(hr_folder, recipe.grey, max(patches), workers)
    made = []
    for degradation in degradations:
        made += _prepare_scale(sources, out, degradation, recipe, workers)
    return made


def plan_products(sources: Sequence[Source], out: Path, degradation: Degradation, recipe: Recipe) -> list[Product]:
    """The products of one degradation, with everything in their settings that decides their content."""
    listing = "".join(f"{source.stem} {source.sha256}\n" for source in sources)
    common = {"hr_images": hashlib.sha256(listing.encode()).hexdigest(), "scale": degradation.scale}
    if recipe.grey != "refuse":
        common["grey"] = recipe.grey
    sides = {
        "GT": (f"x{degradation.scale}", common),
        "LR": (degradation.name, common | {"degradation": degradation.name}),
    }
    grid = {"crop_size": recipe.grid.size, "step": recipe.grid.step}
    products = []
    for side, (label, settings) in sides.items():
        if "images" in recipe.products:
            products.append(Product(FolderStore(out / f"{side}_{label}", settings), side, sub=False))
        if "sub" in recipe.products:
            products.append(Product(FolderStore(out / f"{side}_sub_{label}", settings | grid), side, sub=True))
        if "lmdb" in recipe.products:
            products.append(Product(LmdbStore(out / f"{side}_sub_{label}.lmdb", settings | grid), side, sub=True))
    return products


def _prepare_scale(
    sources: Sequence[Source], out: Path, degradation: Degradation, recipe: Recipe, workers: int
) -> list[Path]:
    products = plan_products(sources, out, degradation, recipe)
    names = {
        product.store.path: [
            name for source in sources for name in product.names(source, recipe.grid, degradation.scale)
        ]
        for product in products
    }
    unfinished = [product for product in products if not product.store.is_whole(names[product.store.path])]
    there = {product.store.path: product.store.begin() for product in unfinished}

    def lacking(source: Source) -> list[Product]:
        return [
            product
            for product in unfinished
            if not there[product.store.path].issuperset(product.names(source, recipe.grid, degradation.scale))
        ]

    todo = {source.path: lacking(source) for source in sources}
    make = partial(make_images, degradation=degradation, recipe=recipe)
    paths = [path for path, products_of_image in todo.items() if products_of_image]
    for path, images in work_through(make, paths, workers, degradation.name):
        for product in todo[path]:
            product.store.put(images[product.side, product.sub])
    for product in unfinished:
        product.store.finish(names[product.store.path])
    return [product.store.path for product in products]


def make_images(path: Path, degradation: Degradation, recipe: Recipe) -> dict[tuple[str, bool], dict[str, bytes]]:
    """All that is made of one HR image, as PNG bytes.

    Args:
        path: the HR file.
        degradation: makes the LR.
        recipe: products, sub-image grid, grey files.

    Returns:
        By (side, whether sub-images): PNG bytes by name; sides are GT and LR.
    """
    gt = mod_crop(load_source(path, recipe.grey), degradation.scale)
    lq = degradation.degrade(gt)
    images = {}
    if "images" in recipe.products:
        images["GT", False] = {path.stem: encode_png(gt)}
        images["LR", False] = {path.stem: encode_png(lq)}
    if {"sub", "lmdb"} & set(recipe.products):
        windows = recipe.grid.windows(*gt.shape[:2])
        names = sub_image_names(path.stem, len(windows))
        scale = degradation.scale
        images["GT", True] = {name: encode_png(gt[at]) for name, at in zip(names, windows, strict=True)}
        images["LR", True] = {name: encode_png(lq[shrink(at, scale)]) for name, at in zip(names, windows, strict=True)}
    return images
