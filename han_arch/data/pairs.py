"""List the images of a data set in an option file, and check them. Training and testing load exactly this list."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from han_arch.data.degradation import TURNED, is_turned
from han_arch.data.image_sets import ImageRef, infer_template
from han_arch.data.parallel import WorkerDied, default_workers, in_threads, run_apart
from han_arch.data.stores import LmdbFault, lmdb_keys
from han_arch.errors import nearest
from han_arch.images.formats import SUFFIXES
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image

# Type of a data set -> options with the folders of its images. Data sets of other types are not checked.
SIDES = {"PairedImageDataset": ("dataroot_gt", "dataroot_lq"), "SingleImageDataset": ("dataroot_lq",)}
SHOWN = 8  # largest number of faults of one kind that are listed
_TRIED = 3  # number of training pairs that are decoded before a run
_SHAPE = re.compile(r"\((\d+), *(\d+), *\d+\)")  # height, width and channels in a line of a meta_info file
_CUTS = (4, 6, 8, 12, 24)  # GT images are often cut to multiples of these numbers before LR images are made
_NEAR = 2000  # largest number of names that are searched for a similar name
Size = tuple[int, ...]  # height and width in pixels
Item = tuple[ImageRef, ...]  # a GT image and its LQ image, or one LQ image


class Fault(NamedTuple):
    """A fault of a data set."""

    option: str  # the option that names the faulty folder or file; "" if there is no single option
    text: str  # one line


@dataclass
class Listing:
    """The images that a run loads from a data set."""

    items: list[Item] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    sizes: dict[ImageRef, Size] = field(default_factory=dict)  # (height, width) in the meta_info.txt of an LMDB


def list_items(options: Mapping[str, Any]) -> Listing:
    """List the images that the options of a data set name: files, keys of LMDBs, or lines of `meta_info_file`.

    The pairs are those of BasicSR. No image is opened. The keys of an LMDB are read from its meta_info.txt.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    listing = Listing()
    sides = SIDES[options["type"]]
    folders = [Path(options[side]) for side in sides]
    in_lmdb = options["io_backend"]["type"] == "lmdb"
    meta = None if in_lmdb else options.get("meta_info_file")
    for side, folder in zip(sides, folders, strict=True):
        listing.faults += [Fault(side, text) for text in _folder_faults(folder, in_lmdb)]
    if listing.faults:
        return listing
    if meta:
        names = [("meta_info_file", _names_in_text(Path(meta), folders[0], in_lmdb, listing))]
    elif in_lmdb:
        texts = [_names_in_text(folder / "meta_info.txt", folder, in_lmdb, listing) for folder in folders]
        names = list(zip(sides, texts, strict=True))
    else:
        names = [(side, _file_names(folder)) for side, folder in zip(sides, folders, strict=True)]
    for option, found in names:
        if not found and option not in [fault.option for fault in listing.faults]:
            text = f"'{options[option]}' contains no images; BasicSR does not search subfolders"
            listing.faults.append(Fault(option, text))
    if listing.faults:
        return listing
    template = "{}" if in_lmdb else options.get("filename_tmpl") or "{}"
    rows = [(name, _partner(name, template))[: len(sides)] for name in names[0][1]]
    items = [tuple(ImageRef(*place, in_lmdb) for place in zip(folders, row, strict=True)) for row in rows]
    if meta:
        missing = [_missing_file(item) for item in items]  # on a network file system, each look takes time
        listing.items = [item for item, path in zip(items, missing, strict=True) if path is None]
        absent = [
            f"'{meta}' lists {item[0].name}, but {path} does not exist"
            for item, path in zip(items, missing, strict=True)
            if path is not None
        ]
        listing.faults += [Fault("meta_info_file", text) for text in shortened(absent, len(absent))]
    else:
        known = set(names[-1][1])
        listing.items = [item for item in items if item[-1].name in known]
        lost = [item for item in items if item[-1].name not in known]
        surplus = sorted(known - {row[-1] for row in rows})
        listing.faults += [Fault("", text) for text in _match_faults(folders, lost, surplus, template)]
    return listing


def check_items(listing: Listing, options: Mapping[str, Any]) -> list[str]:
    """Check the images of a listing. Return one line for each fault.

    The function finds files that are not images, keys that LMDBs lack, and sizes that do not fit the scale. It decodes
    all images for validation and testing, and the first, the middle and the last pair for training.
    """
    if not listing.items or not listing.items[0][0].in_lmdb:
        return _check(listing, options)
    try:
        # Damaged LMDB pages can crash the process that reads them.
        return run_apart(partial(_check, listing), options)
    except WorkerDied:
        folders = " and ".join(dict.fromkeys(str(ref.folder) for ref in listing.items[0]))
        return [f"the process that read {folders} crashed; run basicsr data verify to find the damaged data.mdb"]


def _check(listing: Listing, options: Mapping[str, Any]) -> list[str]:
    is_train, scale = options.get("phase") == "train", options.get("scale")
    refs = [ref for item in listing.items for ref in item]
    odd = [ref for ref in refs if not (ref.in_lmdb or ref.name.lower().endswith(SUFFIXES) or _is_image(ref))]
    faults = [[f"{ref} is not an image; remove this file" for ref in odd]]
    if not is_train:
        stems = Counter(Path(item[-1].name).stem for item in listing.items)
        remedy = "their results would have the same name; keep one of them"
        faults += [[f"{count} images are called {stem}, and {remedy}" for stem, count in stems.items() if count > 1]]
    of_lmdbs = [_lmdb_faults(folder, refs) for folder in {ref.folder: 0 for ref in refs if ref.in_lmdb}]
    wrong = []
    for item in listing.items:
        noted = [listing.sizes[ref] for ref in item if ref in listing.sizes]
        if len(noted) == 2 and scale and (text := _size_fault(noted, scale, cut=not is_train)):
            wrong.append(f"{item[1]}: {text}")
    faults += [*of_lmdbs, wrong]
    if not any(of_lmdbs):
        faults.append(_decode(listing, options, set(odd)) if not wrong else [])
    return [text for texts in faults for text in shortened(texts, len(texts))]


def _lmdb_faults(folder: Path, refs: Iterable[ImageRef]) -> list[str]:
    try:
        keys = set(lmdb_keys(folder))
    except LmdbFault as fault:
        return [str(fault)]
    # An LMDB may have more keys: users choose images by the lines of meta_info.txt.
    names = [ref.name for ref in refs if ref.folder == folder]
    return [f"{folder}: key {name} is in meta_info.txt but not in the LMDB" for name in names if name not in keys]


def _decode(listing: Listing, options: Mapping[str, Any], skipped: set[ImageRef]) -> list[str]:
    is_train, items = options.get("phase") == "train", [item for item in listing.items if not skipped & set(item)]
    if is_train and items:
        places = {round(index * (len(items) - 1) / (_TRIED - 1)) for index in range(_TRIED)}
        items = [items[place] for place in sorted(places)]
    look = partial(_examine, scale=options.get("scale"), patch=options.get("gt_size") if is_train else None)
    faults = []
    for found, sizes in in_threads(look, items, default_workers(), str(options.get("name", "images"))):
        faults += found
        for ref, size in sizes.items():
            if (noted := listing.sizes.get(ref, size)) != size:
                faults.append(f"{ref}: has {_text(size)} pixels, but meta_info.txt contains {_text(noted)}")
    return faults


def shortened(faults: Iterable[str], count: int) -> list[str]:
    """Return the first `SHOWN` of `count` faults, and a line with the number of the others."""
    more = [f"{count - SHOWN} more faults of this kind"] if count > SHOWN else []
    return [*islice(faults, SHOWN), *more]


def _folder_faults(folder: Path, in_lmdb: bool) -> Iterator[str]:
    if not folder.is_dir():
        yield f"'{folder}' does not exist or is not a folder (current folder: {Path.cwd()})"
    elif folder.name.endswith(".partial"):
        yield f"'{folder}' is not finished; to finish it, run the same basicsr data prepare command again"
    elif in_lmdb and folder.suffix != ".lmdb":
        yield f"with io_backend type lmdb, the folder's name must end in .lmdb; got '{folder}'"
    elif in_lmdb and not (folder / "meta_info.txt").is_file():
        yield f"'{folder}' has no meta_info.txt; create the LMDB again with `basicsr data prepare`"
    elif not in_lmdb and (folder / "data.mdb").is_file():
        yield f"'{folder}' is an LMDB; set io_backend to {{type: lmdb}} or use an image folder"


def _file_names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def _names_in_text(path: Path, folder: Path, in_lmdb: bool, listing: Listing) -> list[str]:
    """Return the first word of each line in a meta_info file, for an LMDB cut at the first dot. Skip empty lines."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        listing.faults.append(Fault("" if in_lmdb else "meta_info_file", f"'{path}' is not UTF-8 text: {error}"))
        return []
    names = []
    for line in filter(None, map(str.strip, lines)):
        name = line.split(".")[0] if in_lmdb else line.split(" ")[0]
        names.append(name)
        # BasicSR ignores the sizes in a meta_info_file, which may be those of the images before they were cut.
        if in_lmdb and (shape := _SHAPE.search(line)):
            listing.sizes[ImageRef(folder, name, in_lmdb)] = int(shape[1]), int(shape[2])
    return sorted(names) if in_lmdb else names


def _partner(name: str, template: str) -> str:
    stem, ending = os.path.splitext(os.path.basename(name))
    return template.replace("{}", stem) + ending


def _missing_file(item: Item) -> str | None:
    paths = (os.path.join(ref.folder, ref.name) for ref in item)
    return next((path for path in paths if not os.path.isfile(path)), None)


def _match_faults(folders: Sequence[Path], lost: Sequence[Item], surplus: Sequence[str], template: str) -> list[str]:
    """Describe the GT images without an LQ image (`lost`) and the LQ images without a GT image (`surplus`)."""
    stems = [[Path(name).stem for name in names] for names in ([item[0].name for item in lost], surplus)]
    better = infer_template(*stems) if all(stems) and not lost[0][0].in_lmdb else template
    renamed = len(set(stems[1]) & {better.replace("{}", stem) for stem in stems[0]})
    if better != template and renamed > 1 and renamed > len(lost) / 2:
        names = f"{surplus[0]} in {folders[1]}, {lost[0][0].name} in {folders[0]}"
        return [f"LQ names differ from GT names ({names}); set filename_tmpl: '{better}'"]
    of_gt = (f"GT image {gt} has no LQ image {lq.name} in {folders[1]}{_remedy(gt, lq, surplus)}" for gt, lq in lost)
    others = (ImageRef(folders[-1], name, folders[-1].suffix == ".lmdb") for name in surplus)
    of_lq = (f"LQ image {ref} has no GT image in {folders[0]}{_odd(ref)}" for ref in others)
    return shortened(of_gt, len(lost)) + shortened(of_lq, len(surplus))


def _remedy(gt: ImageRef, lq: ImageRef, surplus: Sequence[str]) -> str:
    stem = Path(lq.name).stem
    near = next((name for name in surplus if Path(name).stem == stem), None) or nearest(lq.name, surplus[:_NEAR])
    return _odd(gt) or (f"; the most similar name is {near}" if near else "")


def _odd(ref: ImageRef) -> str:
    return "" if ref.in_lmdb or _is_image(ref) else f"; {ref.name} is not an image, so remove this file"


def _is_image(ref: ImageRef) -> bool:
    try:
        with Image.open(ref.folder / ref.name):
            return True
    except Exception:  # Pillow raises many kinds of exceptions for files that are not images
        return False


def _examine(item: Item, scale: int | None, patch: int | None) -> tuple[list[str], dict[ImageRef, Size]]:
    """Decode the images of an item. Return its faults, and the (height, width) of each image that can be decoded."""
    faults, images = [], {}
    for ref in item:
        try:
            images[ref] = decode_image(ref.read())
        except (ImageError, OSError, LmdbFault) as error:
            faults.append(f"{ref}: {error}")
    sizes = {ref: image.shape[:2] for ref, image in images.items()}
    if len(sizes) == 2 and scale and (text := _size_fault(list(sizes.values()), scale, cut=patch is None)):
        faults.append(f"{item[1]}: {text}")
    elif patch and sizes.get(item[0]) and min(sizes[item[0]]) < patch:
        faults.append(f"{item[0]}: {_text(sizes[item[0]])} pixels are fewer than gt_size {patch}; lower gt_size")
    elif len(images) == 2 and is_turned(*images.values()):
        faults.append(f"{item[1]}: {TURNED}")
    return faults, sizes


def _size_fault(sizes: Sequence[Size], scale: int, cut: bool = False) -> str | None:
    """Compare the sizes of GT and LQ. `cut`: GT may have rows and columns that were cut off before LQ was made."""
    gt, lq = sizes
    multiples = [multiple for multiple in (scale, *_CUTS) if multiple % scale == 0] if cut else [1]
    fitting = [tuple((side - side % multiple) // scale for side in gt) for multiple in multiples]
    if lq in fitting and (cut or all(side % scale == 0 for side in gt)):
        return None
    return f"has {_text(lq)} pixels, but x{scale} needs {_text(fitting[0])}, because GT has {_text(gt)}"


def _text(size: Size) -> str:
    return f"{size[1]}x{size[0]}"
