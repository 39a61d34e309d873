"""Test sets: folders with HR images. LR images are made from HR, or come from another folder of the user."""

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

PAPER_SETS = ("Set5", "Set14", "B100")  # test sets in the papers' tables; releases are measured on them
KEYS = ("dataroot_gt", "dataroot_lq")


@dataclass(frozen=True)
class TestImage:
    """One image of a test set.

    Attributes:
        name: name of the HR file without its suffix.
        gt: path of the HR file.
        lq: path of the LR file. None: make LR from HR.
        digest: SHA-256 over shape and pixels of the HR image, and of the LR image if there is an LR file.
        grey: whether the HR file is a grey image.
    """

    name: str
    gt: Path
    lq: Path | None
    digest: str
    grey: bool

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
        """Load the image pair (LR, HR), prepared as the protocol requires.

        Returns:
            The LR image, and the HR image from `load_gt`. Both are uint8: (h, w, 3) RGB or (h, w) grey.

        Raises:
            UserError: a file cannot be used, or LR does not have the size of the cut HR image divided by the scale.
        """
        gt = load_gt(self.gt, protocol)
        if self.lq is None:
            return protocol.lr_degradation.degrade(gt), gt
        lq = load_rgb_or_grey(self.lq)
        height, width = gt.shape[0] // protocol.scale, gt.shape[1] // protocol.scale
        if lq.shape[:2] != (height, width):
            raise UserError(
                f"{self.lq} must be {width}x{height} pixels for x{protocol.scale} (the size of {self.gt.name} after "
                f"the crop {protocol.crop_gt}, divided by {protocol.scale}); got {lq.shape[1]}x{lq.shape[0]}"
            )
        return (as_rgb(lq) if gt.ndim == 3 else lq), gt


@dataclass(frozen=True)
class EvaluationSet:
    """A test set with its protocol.

    It has the leaderboard's protocol, but `lr_border` is "as given" if the user gave LR files.
    """

    name: str
    images: tuple[TestImage, ...]
    protocol: Protocol


def check_set(name: str, options: Any, protocol: Protocol) -> tuple[EvaluationSet, list[str]]:
    """Check the options of a test set, and decode every image.

    Args:
        name: name of the test set.
        options: a mapping. `dataroot_gt` is the folder with HR images. The optional `dataroot_lq` is a folder with LR
            images. The LR image of NAME.png is NAME.png or, for scale 4, NAMEx4.png.
        protocol: protocol of the leaderboard.

    Returns:
        The test set with all images that can be used, and a list with one line for each fault.
    """
    if not isinstance(options, Mapping):
        return EvaluationSet(name, (), protocol), [
            f"{name}: the options of a test set must be a mapping with dataroot_gt; got {options!r}"
        ]
    faults = [f"{name}: {unknown('option of a test set:', key, KEYS)}" for key in options if key not in KEYS]
    root, lq_root = options.get("dataroot_gt"), options.get("dataroot_lq")
    if lq_root is not None:
        protocol = replace(protocol, lr_border="as given")
    if not isinstance(root, str):
        faults.append(f"{name}: dataroot_gt must be the path of a folder with HR images; got {root!r}")
        return EvaluationSet(name, (), protocol), faults
    files, listing_faults = _list(name, Path(root))
    faults += listing_faults
    lq_of: dict[Path, Path | None] = dict.fromkeys(files)
    if lq_root is not None:
        lq_files, listing_faults = _list(name, Path(str(lq_root)))
        by_stem = {path.stem: path for path in lq_files}
        lq_of = {path: by_stem.get(path.stem) or by_stem.get(f"{path.stem}x{protocol.scale}") for path in files}
        faults += listing_faults
        faults += [
            f"{name}: the HR file {gt.name} has no LR file with the same name" for gt, lq in lq_of.items() if lq is None
        ]
        unused = sorted(set(by_stem.values()) - set(lq_of.values()))
        faults += [f"{name}: the LR file {lq.name} has no HR file with the same name" for lq in unused]
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
    """Find and check test sets in a folder.

    Args:
        root: folder with the test sets. HR images of a set are in NAME/HR, or in NAME/GT_x4 for scale 4, which
            `basicsr data prepare` writes.
        protocol: protocol for measuring on the test sets.
        names: names of the test sets.

    Raises:
        UserError: a test set is missing or an image cannot be used. The message lists all faults, one per line.
    """
    found, faults = [], []
    for name in names:
        folders = [root / name / "HR", root / name / f"GT_x{protocol.scale}"]
        folder = next((path for path in folders if path.is_dir()), None)
        if folder is None:
            faults.append(f"{name}: the HR images must be in {folders[0]} or {folders[1]}, but neither folder exists")
            continue
        checked, set_faults = check_set(name, {"dataroot_gt": str(folder)}, protocol)
        found.append(checked)
        faults += set_faults
    if faults:
        raise UserError("\n  ".join(["these test sets cannot be measured:", *faults]))
    return found


def load_gt(path: Path, protocol: Protocol) -> np.ndarray:
    """Read an HR file and cut the image with `protocol.cut_gt`.

    Returns:
        The HR image: uint8, (h, w, 3) RGB; or (h, w) for a grey file if `protocol.grey` is "direct".

    Raises:
        UserError: the file is not an 8-bit grey or RGB image, or the image is too small to be cut.
    """
    gt = protocol.cut_gt(load_rgb_or_grey(path))
    if gt.size == 0:
        raise UserError(
            f"{path} has a side that is smaller than {protocol.gt_multiple} pixels; remove this image from the test set"
        )
    return as_rgb(gt) if protocol.grey == "as_rgb" else gt


def load_rgb_or_grey(path: Path) -> np.ndarray:
    """Read an image file as uint8: (h, w) for grey or (h, w, 3) for RGB.

    Raises:
        UserError: the file cannot be read, is not an 8-bit grey or RGB image, or has an alpha channel.
    """
    try:
        image = read_image(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if image.ndim == 3 and image.shape[2] != 3:
        raise UserError(f"{path} has an alpha channel; convert the image to RGB")
    return image


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Convert a grey image, (h, w), to three equal channels, (h, w, 3). Return an RGB image unchanged."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    """Convert a uint8 image, (h, w, 3) or (h, w), to a float32 tensor (1, 3, h, w) in [0, 1] on a device."""
    planes = np.ascontiguousarray(as_rgb(image).transpose(2, 0, 1))
    return torch.from_numpy(planes).to(device).float()[None] / 255


def _list(name: str, folder: Path) -> tuple[list[Path], list[str]]:
    folder = folder.expanduser()
    if not folder.is_dir():
        return [], [f"{name}: there is no folder {folder} (paths are relative to {Path.cwd()})"]
    files = list_files(folder)
    faults = [] if files else [f"{name}: there is no image in the folder {folder}"]
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    return files, faults + [
        f"{name}: the folder {folder} has several images named {stem}; keep only one of them" for stem in twice
    ]


def _read(path: Path, lq: Path | None) -> TestImage:
    digest = hashlib.sha256()
    gt = load_rgb_or_grey(path)
    for image in (gt,) if lq is None else (gt, load_rgb_or_grey(lq)):
        digest.update(repr(image.shape).encode())
        digest.update(image.tobytes())
    return TestImage(path.stem, path, lq, digest.hexdigest(), gt.ndim == 2)
