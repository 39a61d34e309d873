"""The test sets of a leaderboard: folders of HR, with LR made here or given, checked image by image."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from han_arch.errors import UserError
from han_arch.evaluation import score
from han_arch.evaluation.protocol import Protocol
from han_arch.images.strict import list_files

KEYS = ("dataroot_gt", "dataroot_lq")


@dataclass(frozen=True)
class Pair:
    """One test image.

    Attributes:
        name: its file's stem.
        gt: the HR file.
        lq: the LR file, None where LR is made from HR.
        digest: SHA-256 over shapes and pixels of both files.
        grey: whether the HR file is grey.
    """

    name: str
    gt: Path
    lq: Path | None
    digest: str
    grey: bool

    def load(self, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
        """LR and HR by a protocol, as `score.load_gt` gives HR.

        Raises:
            UserError: a file cannot be used, or LR is not HR / scale.
        """
        gt = score.load_gt(self.gt, protocol)
        if self.lq is None:
            return score.degradation_of(protocol).degrade(gt), gt
        lq = score.load_rgb_or_grey(self.lq)
        wanted = (gt.shape[0] // protocol.scale, gt.shape[1] // protocol.scale)
        if lq.shape[:2] != wanted:
            raise UserError(
                f"{self.lq} is {lq.shape[1]}x{lq.shape[0]}; {self.gt.name}, cut for {protocol.crop_gt}, at "
                f"x{protocol.scale} wants {wanted[1]}x{wanted[0]}"
            )
        return (score.as_rgb(lq) if gt.ndim == 3 else lq), gt


@dataclass(frozen=True)
class EvaluationSet:
    """A named set of test images, and its protocol: the board's, with LR "as given" where LR files were given."""

    name: str
    pairs: tuple[Pair, ...]
    protocol: Protocol


def check_set(name: str, options: Mapping[str, Any], protocol: Protocol) -> tuple[EvaluationSet, list[str]]:
    """Look at every file of a set before the long run.

    Args:
        name: of the set.
        options: `dataroot_gt`, a folder of HR images, and `dataroot_lq`, a folder of LR images of the same names (or
            NAMExSCALE), if LR is not to be made here.
        protocol: of the board.

    Returns:
        The set with the pairs that are good, and one line for each thing that is wrong.
    """
    faults = [f"{name}: no option {key!r}; there are {', '.join(KEYS)}" for key in options if key not in KEYS]
    root, lq_root = options.get("dataroot_gt"), options.get("dataroot_lq")
    if lq_root is not None:
        protocol = replace(protocol, lr_border="as given")
    if not isinstance(root, str):
        return EvaluationSet(name, (), protocol), [
            *faults,
            f"{name}: dataroot_gt must name a folder of HR images; got {root!r}",
        ]
    files, listing_faults = _list(name, Path(root))
    faults += listing_faults
    lq_files: dict[str, Path] = {}
    if lq_root is not None:
        lq_list, listing_faults = _list(name, Path(str(lq_root)))
        faults += listing_faults
        lq_files = {path.stem: path for path in lq_list}
        faults += _name_faults(name, files, lq_files, protocol.scale)
    pairs = []
    for path in files:
        lq = _lq_of(path.stem, lq_files, protocol.scale)
        if lq_root is not None and lq is None:
            continue
        try:
            pair = _examine(path, lq)
            pair.load(protocol)
            pairs.append(pair)
        except UserError as error:
            faults.append(f"{name}: {error}")
    return EvaluationSet(name, tuple(pairs), protocol), faults


def _list(name: str, folder: Path) -> tuple[list[Path], list[str]]:
    folder = folder.expanduser()
    if not folder.is_dir():
        return [], [f"{name}: no folder {folder} (looked for from {Path.cwd()})"]
    files = list_files(folder)
    faults = [] if files else [f"{name}: no image in {folder}"]
    stems = [path.stem for path in files]
    faults += [f"{name}: {stem} stands twice in {folder}" for stem in sorted({s for s in stems if stems.count(s) > 1})]
    return files, faults


def _lq_of(stem: str, lq_files: Mapping[str, Path], scale: int) -> Path | None:
    return lq_files.get(stem) or lq_files.get(f"{stem}x{scale}")


def _name_faults(name: str, files: list[Path], lq_files: Mapping[str, Path], scale: int) -> Iterator[str]:
    used = {lq for path in files if (lq := _lq_of(path.stem, lq_files, scale))}
    for path in files:
        if _lq_of(path.stem, lq_files, scale) is None:
            yield f"{name}: {path.name} has no LR file of its name"
    for lq in sorted(set(lq_files.values()) - used):
        yield f"{name}: {lq.name} in the LR folder has no HR file of its name"


def _examine(path: Path, lq: Path | None) -> Pair:
    digest = hashlib.sha256()
    gt = score.load_rgb_or_grey(path)
    for image in (gt,) if lq is None else (gt, score.load_rgb_or_grey(lq)):
        digest.update(repr(image.shape).encode())
        digest.update(image.tobytes())
    return Pair(path.stem, path, lq, digest.hexdigest(), gt.ndim == 2)
