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
from han_arch.data.lmdb_store import LmdbStore
from han_arch.data.parallel import work_through
from han_arch.data.sources import Source, check_sources, load_source
from han_arch.data.stores import FolderStore, Store
from han_arch.errors import UserError
from han_arch.images.strict import encode_png

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
    """One of the data sets of the layout.

    Attributes:
        store: where it goes.
        side: "GT" or "LR".
        sub: whether it holds sub-images.
        names: what it has of each HR file.
    """

    store: Store
    side: str
    sub: bool
    names: dict[Path, list[str]]

    def all_names(self) -> set[str]:
        """Everything that it has when it is whole."""
        return {name for names in self.names.values() for name in names}


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
    scale = degradation.scale
    listing = "".join(f"{source.stem} {source.sha256}\n" for source in sources)
    common: dict[str, object] = {"hr_images": hashlib.sha256(listing.encode()).hexdigest(), "scale": scale}
    common |= {"grey": recipe.grey} if recipe.grey != "refuse" else {}
    sides = {"GT": (f"x{scale}", common), "LR": (degradation.name, common | {"degradation": degradation.name})}
    whole = {source.path: [source.stem] for source in sources}
    subs = {source.path: _sub_names(source, scale, recipe.grid) for source in sources}
    count = {"count": sum(len(names) for names in subs.values())}
    grid = {"crop_size": recipe.grid.size, "step": recipe.grid.step} | count
    products = []
    for side, (label, settings) in sides.items():
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
    return sub_image_names(source.stem, len(grid.windows(height, width)))


def _prepare_scale(
    sources: Sequence[Source], out: Path, degradation: Degradation, recipe: Recipe, workers: int
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
