"""Test sets: folders with HR images. LR images are made from HR images, or read from a second folder."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from han_arch.errors import UserError, reason, unknown
from han_arch.evaluation.protocol import Protocol
from han_arch.images.read import list_files, read_image

PAPER_SETS = ("Set5", "Set14", "B100")  # test sets in the papers' tables; releases are measured on them
KEYS = ("dataroot_gt", "dataroot_lq")


@dataclass(frozen=True)
class TestImage:
    """One image of a test set."""

    name: str  # name of the HR file without its suffix
    gt: Path  # path of the HR file
    lq: Path | None  # path of the LR file; None: make LR from HR
    digest: str  # SHA-256 over shape and pixels of the HR image, and of the LR image if there is an LR file
    grey: bool  # whether the HR file is a grey image

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
        """Load LR and HR as the protocol requires. Both are uint8: (h, w, 3) RGB or (h, w) grey.

        Raises:
            UserError: a file cannot be used or does not have the pixels of `digest`, or the sizes of LR and of the cut
                HR do not fit the scale.
        """
        file = load_rgb_or_grey(self.gt)
        lq = None if self.lq is None else load_rgb_or_grey(self.lq)
        if _digest(file, lq) != self.digest:
            raise UserError(f"{self.gt} or its LR file has changed since it was checked; run the command again")
        gt = _cut(file, self.gt, protocol)
        if lq is None:
            return protocol.lr_degradation.degrade(gt), gt
        height, width = gt.shape[0] // protocol.scale, gt.shape[1] // protocol.scale
        if lq.shape[:2] != (height, width):
            raise UserError(
                f"{self.lq} has {lq.shape[1]}x{lq.shape[0]} pixels, but x{protocol.scale} needs {width}x{height}, "
                f"because {self.gt} has {gt.shape[1]}x{gt.shape[0]} pixels after the cut ({protocol.crop_gt})"
            )
        return (as_rgb(lq) if gt.ndim == 3 else lq), gt


@dataclass(frozen=True)
class EvaluationSet:
    """A test set and its protocol. If the user gave LR files, `protocol.lr_border` is "as given"."""

    name: str
    images: tuple[TestImage, ...]
    protocol: Protocol


def read_set(name: str, options: Any, protocol: Protocol, faults: list[str]) -> EvaluationSet:
    """Decode every image of a test set, and return the set with all images that can be used.

    Args:
        options: a mapping. `dataroot_gt` is the folder with HR images. The optional `dataroot_lq` is a folder with LR
            images. The LR image of NAME.png is NAME.png or, for scale 4, NAMEx4.png.
        protocol: protocol of the leaderboard.
        faults: list to which the faults are added, one line each.
    """
    if not isinstance(options, Mapping):
        faults.append(f"{name}: the options of a test set must be a mapping with dataroot_gt; got {options!r}")
        return EvaluationSet(name, (), protocol)
    faults += [f"{name}: {unknown('test-set option', key, KEYS)}" for key in options if key not in KEYS]
    root, lq_root = options.get("dataroot_gt"), options.get("dataroot_lq")
    if not isinstance(root, str):
        faults.append(f"{name}: dataroot_gt must be the path of a folder with HR images; got {root!r}")
        return EvaluationSet(name, (), protocol)
    pairs: dict[Path, Path | None] = dict.fromkeys(_list(name, Path(root), faults))
    if lq_root is not None:
        protocol = replace(protocol, lr_border="as given")
        lq_of = {path.stem: path for path in _list(name, Path(str(lq_root)), faults)}
        found = {gt: lq_of.get(gt.stem) or lq_of.get(f"{gt.stem}x{protocol.scale}") for gt in pairs}
        pairs = {gt: lq for gt, lq in found.items() if lq}
        alone = [gt for gt in found if gt not in pairs]
        unused = sorted(set(lq_of.values()) - set(pairs.values()))
        faults += [f"{name}: the HR file {gt.name} has no LR file with the same name" for gt in alone]
        faults += [f"{name}: the LR file {lq.name} has no HR file with the same name" for lq in unused]
    images = []
    for gt, lq in pairs.items():
        try:
            image = _read(gt, lq)
            image.load(protocol)
            images.append(image)
        except Exception as error:  # decoders may raise any exception; one image never hides the faults of the others
            faults.append(f"{name}: {reason(error)}")
    return EvaluationSet(name, tuple(images), protocol)


def find_sets(root: Path, protocol: Protocol, names: Sequence[str] = PAPER_SETS) -> list[EvaluationSet]:
    """Find the test sets in a folder, and decode all images.

    The HR images are in NAME/HR or, for scale 4, in NAME/GT_x4. `basicsr data prepare` writes NAME/GT_x4.

    Raises:
        UserError: a test set is missing or an image cannot be used. The message lists all faults, one per line.
    """
    found: list[EvaluationSet] = []
    faults: list[str] = []
    for name in names:
        folders = [root / name / "HR", root / name / f"GT_x{protocol.scale}"]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            faults.append(f"{name}: the HR images must be in {folders[0]} or {folders[1]}, but neither folder exists")
            continue
        found.append(read_set(name, {"dataroot_gt": str(folder)}, protocol, faults))
    if faults:
        raise UserError("\n  ".join(["these test sets cannot be measured:", *faults]))
    return found


def load_gt(path: Path, protocol: Protocol) -> np.ndarray:
    """Read an HR file and cut the image with `protocol.cut_gt`.

    Return a uint8 image: (h, w, 3) RGB, or (h, w) for a grey file if `protocol.grey` is "direct".

    Raises:
        UserError: the file is not an 8-bit grey or RGB image, or a side is shorter than `protocol.gt_multiple`.
    """
    return _cut(load_rgb_or_grey(path), path, protocol)


def _cut(image: np.ndarray, path: Path, protocol: Protocol) -> np.ndarray:
    gt = protocol.cut_gt(image)
    if gt.size == 0:
        raise UserError(
            f"{path} has a side that is smaller than {protocol.gt_multiple} pixels; remove this image from the test set"
        )
    return as_rgb(gt) if protocol.grey == "as_rgb" else gt


def load_rgb_or_grey(path: Path) -> np.ndarray:
    """Read an image file as uint8: (h, w) for grey or (h, w, 3) for RGB.

    Raises:
        OSError: the file cannot be opened.
        UserError: the file is damaged, is not an 8-bit grey or RGB image, or has transparent pixels.
    """
    try:
        return read_image(path)
    except ValueError as error:
        raise UserError(str(error)) from error


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Convert a grey image, (h, w), to three equal channels, (h, w, 3). Return an RGB image unchanged."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    """Convert a uint8 image, (h, w, 3) or (h, w), to a float32 tensor (1, 3, h, w) in [0, 1] on a device."""
    planes = np.ascontiguousarray(as_rgb(image).transpose(2, 0, 1))
    return torch.from_numpy(planes).to(device).float()[None] / 255


def _list(name: str, folder: Path, faults: list[str]) -> list[Path]:
    folder = Path(os.path.expanduser(folder))
    try:
        files = list_files(folder) if folder.is_dir() else None
    except OSError as error:
        faults.append(f"{name}: cannot read the folder {folder}: {error.strerror}; check its permissions")
        return []
    if files is None:
        faults.append(f"{name}: there is no folder {folder} (paths are relative to {Path.cwd()})")
        return []
    if any(file.name == "data.mdb" for file in files):
        faults.append(f"{name}: {folder} is an LMDB; the leaderboard reads only folders of image files")
        return []
    if not files:
        faults.append(f"{name}: there is no image in the folder {folder}")
    for stem, count in sorted(Counter(path.stem for path in files).items()):
        if count > 1:
            faults.append(f"{name}: the folder {folder} has several images named {stem}; keep only one of them")
    return files


def _read(path: Path, lq: Path | None) -> TestImage:
    gt = load_rgb_or_grey(path)
    digest = _digest(gt, None if lq is None else load_rgb_or_grey(lq))
    return TestImage(path.stem, path, lq, digest, gt.ndim == 2)


def _digest(gt: np.ndarray, lq: np.ndarray | None) -> str:
    digest = hashlib.sha256()
    for image in (gt,) if lq is None else (gt, lq):
        digest.update(repr(image.shape).encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
