"""Test sets: folders of HR images, checked image by image; LR is made here or given."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from han_arch.errors import UserError, unknown
from han_arch.evaluation.protocol import Protocol
from han_arch.images.read import list_files, read_image

PAPER_SETS = ("Set5", "Set14", "B100")  # of the papers' tables, and of a release
KEYS = ("dataroot_gt", "dataroot_lq")


@dataclass(frozen=True)
class TestImage:
    """One image of a test set.

    Attributes:
        name: its file's stem.
        gt, lq: the HR and the LR file; None where LR is made from HR.
        digest: SHA-256 over shapes and pixels of both files.
        grey: whether the HR file is grey.
    """

    name: str
    gt: Path
    lq: Path | None
    digest: str
    grey: bool

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
        """Load LR and HR by a protocol; HR as `load_gt` returns it.

        Raises:
            UserError: a file cannot be used, or LR is not HR / scale.
        """
        gt = load_gt(self.gt, protocol)
        if self.lq is None:
            return protocol.lr_degradation.degrade(gt), gt
        lq = load_rgb_or_grey(self.lq)
        height, width = gt.shape[0] // protocol.scale, gt.shape[1] // protocol.scale
        if lq.shape[:2] != (height, width):
            raise UserError(
                f"{self.lq} is {lq.shape[1]}x{lq.shape[0]}; {self.gt.name}, cut for {protocol.crop_gt}, at "
                f"x{protocol.scale} needs {width}x{height}"
            )
        return (as_rgb(lq) if gt.ndim == 3 else lq), gt


@dataclass(frozen=True)
class EvaluationSet:
    """A named test set and its protocol: the board's, with LR "as given" where LR files were given."""

    name: str
    images: tuple[TestImage, ...]
    protocol: Protocol


def check_set(name: str, options: Any, protocol: Protocol) -> tuple[EvaluationSet, list[str]]:
    """Decode every image of a set before the long run.

    Args:
        name: of the set.
        options: `dataroot_gt`, a folder of HR images, and optionally `dataroot_lq`, a folder of LR images of the same
            names or NAMExSCALE.
        protocol: of the board.

    Returns:
        The set with its good images, and one line for each fault.
    """
    if not isinstance(options, Mapping):
        return EvaluationSet(name, (), protocol), [f"{name}: must be a mapping with dataroot_gt; got {options!r}"]
    faults = [f"{name}: {unknown('option', key, KEYS)}" for key in options if key not in KEYS]
    root, lq_root = options.get("dataroot_gt"), options.get("dataroot_lq")
    if lq_root is not None:
        protocol = replace(protocol, lr_border="as given")
    if not isinstance(root, str):
        faults.append(f"{name}: dataroot_gt must name a folder of HR images; got {root!r}")
        return EvaluationSet(name, (), protocol), faults
    files, listing_faults = _list(name, Path(root))
    faults += listing_faults
    lq_of: dict[Path, Path | None] = dict.fromkeys(files)
    if lq_root is not None:
        lq_files, listing_faults = _list(name, Path(str(lq_root)))
        by_stem = {path.stem: path for path in lq_files}
        lq_of = {path: by_stem.get(path.stem) or by_stem.get(f"{path.stem}x{protocol.scale}") for path in files}
        faults += listing_faults
        faults += [f"{name}: {gt.name} has no LR file of the same name" for gt, lq in lq_of.items() if lq is None]
        unused = sorted(set(by_stem.values()) - set(lq_of.values()))
        faults += [f"{name}: {lq.name} in the LR folder has no HR file of the same name" for lq in unused]
    images = []
    for gt, lq in lq_of.items():
        if lq is None and lq_root is not None:
            continue
        try:
            image = _read(gt, lq)
            image.load(protocol)
            images.append(image)
        except UserError as error:
            faults.append(f"{name}: {error}")
    return EvaluationSet(name, tuple(images), protocol), faults


def find_sets(root: Path, protocol: Protocol, names: Sequence[str] = PAPER_SETS) -> list[EvaluationSet]:
    """Return test sets from a folder: NAME/HR, or NAME/GT_xSCALE from `basicsr data prepare`.

    Raises:
        UserError: a line for each missing set and each image that cannot be used.
    """
    found, faults = [], []
    for name in names:
        folders = [root / name / "HR", root / name / f"GT_x{protocol.scale}"]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            faults.append(f"{name}: neither {folders[0]} nor {folders[1]} exists")
            continue
        checked, set_faults = check_set(name, {"dataroot_gt": str(folder)}, protocol)
        found.append(checked)
        faults += set_faults
    if faults:
        raise UserError("\n  ".join(["test sets that cannot be measured:", *faults]))
    return found


def load_gt(path: Path, protocol: Protocol) -> np.ndarray:
    """Read an HR file and cut it to the protocol's multiples.

    Returns:
        uint8, (h, w, 3) RGB; (h, w) for a grey file when the protocol's grey rule is "direct".

    Raises:
        UserError: not an 8-bit grey or RGB image, or smaller than one multiple.
    """
    gt = protocol.cut_gt(load_rgb_or_grey(path))
    if gt.size == 0:
        raise UserError(f"{path} is smaller than {protocol.gt_multiple} pixels; the cut leaves nothing of it")
    return as_rgb(gt) if protocol.grey == "as_rgb" else gt


def load_rgb_or_grey(path: Path) -> np.ndarray:
    """Read an image file: uint8, (h, w) or (h, w, 3); UserError for any other, such as one with alpha."""
    try:
        image = read_image(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if image.ndim == 3 and image.shape[2] != 3:
        raise UserError(f"{path} has an alpha channel; flatten it to RGB")
    return image


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Turn (h, w) into three equal channels; return (h, w, 3) as it is."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    """Turn a uint8 image, (h, w, 3) or (h, w), into float32 in [0, 1], (1, 3, h, w)."""
    planes = np.ascontiguousarray(as_rgb(image).transpose(2, 0, 1))
    return torch.from_numpy(planes).to(device).float()[None] / 255


def _list(name: str, folder: Path) -> tuple[list[Path], list[str]]:
    folder = folder.expanduser()
    if not folder.is_dir():
        return [], [f"{name}: no folder {folder} (looked for from {Path.cwd()})"]
    files = list_files(folder)
    faults = [] if files else [f"{name}: no image in {folder}"]
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    return files, faults + [f"{name}: two files are called {stem} in {folder}; remove one" for stem in twice]


def _read(path: Path, lq: Path | None) -> TestImage:
    digest = hashlib.sha256()
    gt = load_rgb_or_grey(path)
    for image in (gt,) if lq is None else (gt, load_rgb_or_grey(lq)):
        digest.update(repr(image.shape).encode())
        digest.update(image.tobytes())
    return TestImage(path.stem, path, lq, digest.hexdigest(), gt.ndim == 2)
