"""Check folders and LMDBs, alone or in pairs (GT set and LR set), and find out how the LR images were made."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.degradation import (
    SAME_WAY,
    TURNED,
    ScaledDegradation,
    Verdict,
    all_degradations,
    identify,
    is_turned,
)
from han_arch.data.image_sets import ImageRef, ImageSet, infer_template, load_set
from han_arch.data.parallel import WorkerDied, work_through
from han_arch.data.prepare import PRODUCTS, set_names
from han_arch.data.stores import LmdbFault
from han_arch.errors import nearest
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image

SAMPLE = 9  # number of pairs on which all conventions are tried; then only the best one is tried on all pairs
_READ_FAULTS = (ImageError, OSError, LmdbFault)
_Pair = tuple[ImageRef, ...]  # a GT image and its LR image, or one image that is checked alone


@dataclass
class Report:
    """The result of a check: notes and faults, one line for each. The data set is good if there are no faults."""

    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass
class _Findings:
    """The result of `_examine` for one pair, or the sum of the results for all pairs."""

    shapes: dict[ImageRef, tuple[int, ...]] = field(default_factory=dict)  # (height, width, channels)
    faults: list[str] = field(default_factory=list)
    unlike: int = 0  # number of LR pixel values that differ from those that the detected convention makes
    compared: int = 0  # number of LR pixel values that were compared


def verify_folder(path: Path, workers: int) -> Iterator[tuple[str, Report]]:
    """Check all data sets that `basicsr data prepare` made in a folder; yield (name, report) for each of them.

    If the folder contains no such data set, check the images in the folder itself.
    """
    folders = sorted(inner.name for inner in path.iterdir() if inner.is_dir())
    gt_of = {}
    for degradation in all_degradations().values():
        for product in PRODUCTS:
            gt, lq = set_names(product, degradation)
            gt_of[lq] = gt, degradation
    known = {*gt_of, *(gt for gt, _ in gt_of.values())}
    prepared = {name for name in folders if name.removesuffix(".partial") in known}
    if not prepared:
        yield str(path), verify_single(path, workers)
    for lq in folders:
        if lq in gt_of:
            gt, degradation = gt_of[lq]
            prepared -= {gt, lq}
            yield f"{gt} and {lq}", verify_pair(path / gt, path / lq, workers, degradation=degradation, tolerance=0)
    for name in sorted(prepared):
        yield name, verify_single(path / name, workers)


def verify_single(path: Path, workers: int) -> Report:
    """Check one folder or LMDB alone: decode every image, and compare an LMDB with its meta_info.txt."""
    images = load_set(path)
    report = Report(faults=list(images.faults))
    if images.images:
        report.notes.append(f"{path}: {len(images.images)} images")
        report.faults += _examine_all([images], [(ref,) for ref in images.images.values()], _examine, workers).faults
    return report


def verify_pair(
    gt_path: Path,
    lq_path: Path,
    workers: int,
    scale: int | None = None,
    degradation: ScaledDegradation | None = None,
    tolerance: float = SAME_WAY,
) -> Report:
    """Check a set of GT images and its set of LR images; each set is a folder or an LMDB.

    The LR names may follow a template: "{}x4" turns GT name 0001 into LR name 0001x4.

    Args:
        scale: HR side / LR side. If None, use the scale of `degradation`, or else that of the first readable pair.
        degradation: the degradation that the LR images must have. None: any degradation.
        tolerance: maximum share (0..1) of the pixel values in an LR image that may differ from the LR image that the
            detected degradation makes. Pass 0 (no difference) for data sets that `basicsr data prepare` made.
    """
    gt_set, lq_set = load_set(gt_path), load_set(lq_path)
    report = Report(faults=gt_set.faults + lq_set.faults)
    if not (gt_set.images and lq_set.images):
        return report
    report.notes.append(f"{gt_path}: {len(gt_set.images)} images; {lq_path}: {len(lq_set.images)} images")
    pairs = _match_names(gt_set, lq_set, report)
    if not pairs:
        return report
    sample = []
    for pair in pairs[:: max(1, len(pairs) // SAMPLE)]:
        with contextlib.suppress(*_READ_FAULTS):
            sample.append([decode_image(ref.read()) for ref in pair])
    if not scale:
        sizes = (gt.shape[0] // lq.shape[0] for gt, lq in sample)
        scale = degradation.scale if degradation else next(sizes, 0)
    if scale == 0:
        report.faults.append(f"{gt_path} and {lq_path}: cannot compute the scale from the image sizes; pass --scale")
        return report
    verdict = identify([(gt, lq) for gt, lq in sample if _size_fault(gt, lq, scale) is None], scale)
    if degradation is not None and not verdict.fits(degradation):
        report.faults.append(f"{lq_path}: LR images should be made by {degradation.name}, but were made by {verdict}")
    look = partial(_examine, scale=scale, verdict=verdict, tolerance=tolerance)
    total = _examine_all([gt_set, lq_set], pairs, look, workers)
    report.faults += total.faults
    note = f"{lq_path}: x{scale}, made by {verdict}"
    if total.compared:
        note += f": {total.unlike} of {total.compared} pixel values differ ({total.unlike / total.compared:.4%})"
    report.notes.append(note)
    return report


def _examine(pair: _Pair, scale: int = 1, verdict: Verdict | None = None, tolerance: float = 0) -> _Findings:
    """Decode one image, or an HR image and its LR image.

    If `verdict` is given, degrade the HR image by the method in `verdict`, and compare the result with the LR image.
    """
    findings = _Findings()
    decoded = []
    for ref in pair:
        try:
            pixels = decode_image(ref.read())
        except _READ_FAULTS as error:
            findings.faults.append(f"{ref}: {error}")
            continue
        findings.shapes[ref] = np.atleast_3d(pixels).shape
        decoded.append(pixels)
    if verdict is None or len(decoded) < 2:
        return findings
    gt, lq = decoded
    fault = _size_fault(gt, lq, scale)
    if fault is not None:
        findings.faults.append(f"{pair[1]}: {fault}")
    elif is_turned(gt, lq):
        findings.faults.append(f"{pair[1]}: {TURNED}")
    else:
        findings.unlike, findings.compared = verdict.compare(gt, lq, scale)
        if findings.unlike > tolerance * findings.compared:
            counts = f"{findings.unlike} of {findings.compared} pixel values"
            cause = "the LR image was changed, or it was made from another GT image"
            findings.faults.append(f"{pair[1]}: {counts} differ from the output of {verdict}; {cause}")
    return findings


def _match_names(gt_set: ImageSet, lq_set: ImageSet, report: Report) -> list[_Pair]:
    template = infer_template(list(gt_set.images), list(lq_set.images))
    if template != "{}":
        advice = f"option files need filename_tmpl: '{template}'"
        report.notes.append(f"{lq_set.path}: LR names differ from GT names; {advice}")
    gt_names = {template.replace("{}", name): name for name in gt_set.images}
    surplus = lq_set.images.keys() - gt_names
    for lq_name in sorted(gt_names.keys() - lq_set.images):
        near = nearest(lq_name, surplus)
        hint = f"; the most similar name is {near}" if near else ""
        gt_image = f"GT image {gt_names[lq_name]} of {gt_set.path}"
        report.faults.append(f"{lq_set.path} has no LR image {lq_name} for {gt_image}{hint}")
    report.faults += [f"{gt_set.path} has no GT image for LR image {name} of {lq_set.path}" for name in sorted(surplus)]
    both = sorted(gt_names.keys() & lq_set.images)
    return [(gt_set.images[gt_names[name]], lq_set.images[name]) for name in both]


def _size_fault(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    if gt.shape[2:] != lq.shape[2:]:
        return "one image of the pair is grey, the other is in colour"
    if gt.shape[0] != lq.shape[0] * scale or gt.shape[1] != lq.shape[1] * scale:
        return f"LR size {lq.shape[1]}x{lq.shape[0]} times {scale} is not the GT size {gt.shape[1]}x{gt.shape[0]}"
    return None


def _examine_all(
    sets: Sequence[ImageSet], pairs: Sequence[_Pair], look: Callable[[_Pair], _Findings], workers: int
) -> _Findings:
    """Examine all pairs with `look` and add up the results. For LMDBs, compare image shapes with meta_info.txt."""
    # Read LMDBs only in worker processes, because damaged LMDB pages can crash the process that reads them.
    if any(ref.in_lmdb for images in sets for ref in images.images.values()):
        workers = max(workers, 2)
    total = _Findings()
    try:
        for _, findings in work_through(look, pairs, workers, sets[-1].path.name):
            total.faults += findings.faults
            total.shapes.update(findings.shapes)
            total.unlike += findings.unlike
            total.compared += findings.compared
    except WorkerDied:
        cause = "data.mdb is damaged, or memory ran out"
        total.faults.append(f"{sets[-1].path}: a process that read images crashed; {cause}")
    for images in sets:
        for key, noted in images.shapes.items():
            found = total.shapes.get(ImageRef(images.path, key, in_lmdb=True), noted)
            if found != noted:
                total.faults.append(f"{images.path}: image {key} has shape {found}, but meta_info.txt contains {noted}")
    total.faults.sort()
    return total
