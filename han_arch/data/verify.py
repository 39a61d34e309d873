"""Check data sets, folders and LMDBs, alone and as GT-LR pairs, and find out how the LR images were made."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.degradation import (
    SAME_WAY,
    UNKNOWN,
    ScaledDegradation,
    Verdict,
    all_degradations,
    differing,
    identify,
)
from han_arch.data.image_sets import ImageRef, ImageSet, load_set
from han_arch.data.parallel import WorkerDied, work_through
from han_arch.data.prepare import PRODUCTS, set_names
from han_arch.data.stores import LmdbFault
from han_arch.errors import nearest
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image

SAMPLE = 9  # pairs on which all conventions are tried; all pairs are then compared with the best one
_READ_FAULTS = (ImageError, OSError, LmdbFault)
Pair = tuple[ImageRef, ...]  # a GT image and its LR image, or one image that is checked alone


@dataclass
class Report:
    """The result for one set or pair: notes, and faults that make it bad; one line each."""

    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Expectation:
    """Requirements that a pair of sets must meet.

    Attributes:
        scale: HR side / LR side; None takes the scale of the first readable pair.
        degradation: the required degradation of the LR images; None accepts any.
        tolerance: share of an LR image's samples that may differ; 0 for sets made by `basicsr data prepare`.
    """

    scale: int | None = None
    degradation: ScaledDegradation | None = None
    tolerance: float = SAME_WAY


@dataclass
class Findings:
    """The result for one pair, or for all pairs of two sets.

    Attributes:
        shapes: (height, width, channels) of every image that could be decoded.
        faults: one line each.
        unlike, compared: differing and compared LR samples; the set's convention makes the reference from GT.
    """

    shapes: dict[ImageRef, tuple[int, ...]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unlike: int = 0
    compared: int = 0


def verify_folder(path: Path, workers: int) -> Iterator[tuple[str, Report]]:
    """Check all sets in a folder that `basicsr data prepare` made, or else its own images; yield names and reports."""
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
            expected = Expectation(degradation.scale, degradation, tolerance=0)
            yield f"{gt} and {lq}", verify_pair(path / gt, path / lq, expected, workers)
    for name in sorted(prepared):
        yield name, verify_single(path / name, workers)


def verify_single(path: Path, workers: int) -> Report:
    """Check one folder or LMDB: its listing, and that every image can be decoded."""
    images = load_set(path)
    report = Report(faults=list(images.faults))
    if images.images:
        report.notes.append(f"{path}: {len(images.images)} images")
        report.faults += _examine_all([images], [(ref,) for ref in images.images.values()], examine, workers).faults
    return report


def verify_pair(gt_path: Path, lq_path: Path, expected: Expectation, workers: int) -> Report:
    """Check a GT set and its LR set.

    Args:
        gt_path: folder or LMDB of HR images.
        lq_path: folder or LMDB of LR images; one template, such as "{}x4", makes their names from those of GT.
        expected: scale, degradation and tolerance.
        workers: processes.

    Returns:
        Notes (counts, name template, convention of LR) and faults.
    """
    gt_set, lq_set = load_set(gt_path), load_set(lq_path)
    report = Report(faults=gt_set.faults + lq_set.faults)
    if not (gt_set.images and lq_set.images):
        return report
    report.notes.append(f"{gt_path}: {len(gt_set.images)} images; {lq_path}: {len(lq_set.images)} images")
    pairs = _match_names(gt_set, lq_set, report)
    if not pairs:
        return report
    sample = list(_readable(pairs[:: max(1, len(pairs) // SAMPLE)]))
    scale = expected.scale or next((gt.shape[0] // lq.shape[0] for gt, lq in sample), 0)
    if scale == 0:
        report.faults.append(f"{gt_path} and {lq_path}: no scale from the first readable pair; give --scale")
        return report
    verdict = identify([(gt, lq) for gt, lq in sample if _size_fault(gt, lq, scale) is None], scale)
    wanted = expected.degradation
    if wanted is not None and not verdict.fits(wanted):
        report.faults.append(f"{lq_path}: should be made by {wanted.name}; it is made by {verdict}")
    look = partial(examine, scale=scale, verdict=verdict, tolerance=expected.tolerance)
    total = _examine_all([gt_set, lq_set], pairs, look, workers)
    report.faults += total.faults
    note = f"{lq_path}: x{scale}, made by {verdict}"
    if total.compared:
        note += f": {total.unlike} of {total.compared} samples differ ({total.unlike / total.compared:.4%})"
    report.notes.append(note)
    return report


def infer_template(gt_names: Sequence[str], lq_names: Sequence[str]) -> str:
    """Find the template, such as "{}x4", that turns most GT names into LR names: BasicSR's `filename_tmpl`."""
    first = min(gt_names)
    known = set(lq_names)
    templates = {"{}"} | {name.replace(first, "{}", 1) for name in lq_names if first in name}
    return max(sorted(templates), key=lambda template: sum(template.replace("{}", name) in known for name in gt_names))


def examine(pair: Pair, scale: int = 1, verdict: Verdict | None = None, tolerance: float = SAME_WAY) -> Findings:
    """Decode a pair and compare its images; runs in worker processes.

    Args:
        pair: one or two images.
        scale: HR side / LR side.
        verdict: how the set's LR images were made; an LR image made in another way is a fault. None for one image.
        tolerance: share of LR samples that may differ from the result of the verdict's convention.
    """
    findings = Findings()
    decoded = []
    for ref in pair:
        try:
            pixels = decode_image(ref.read())
        except _READ_FAULTS as error:
            findings.faults.append(f"{ref}: {error}")
            continue
        height, width, channels = np.atleast_3d(pixels).shape
        if channels in (2, 4):
            findings.faults.append(f"{ref}: has an alpha channel, which BasicSR drops silently")
        findings.shapes[ref] = (height, width, channels)
        decoded.append(pixels)
    if verdict is None or len(decoded) < 2:
        return findings
    gt, lq = decoded
    fault = _size_fault(gt, lq, scale)
    if fault is not None:
        findings.faults.append(f"{pair[1]}: {fault}")
    elif verdict.name != UNKNOWN:
        findings.unlike, findings.compared = differing(gt, lq, scale, verdict.name, verdict.edge)
        if findings.unlike > tolerance * findings.compared:
            share = f"{findings.unlike} of {findings.compared} samples"
            findings.faults.append(f"{pair[1]}: {share} are not what {verdict} makes of its GT; not its pair?")
    return findings


def _match_names(gt_set: ImageSet, lq_set: ImageSet, report: Report) -> list[Pair]:
    template = infer_template(list(gt_set.images), list(lq_set.images))
    if template != "{}":
        report.notes.append(f"{lq_set.path}: names are those of GT in filename_tmpl: '{template}'")
    gt_names = {template.replace("{}", name): name for name in gt_set.images}
    surplus = lq_set.images.keys() - gt_names
    for lq_name in sorted(gt_names.keys() - lq_set.images):
        near = nearest(lq_name, surplus)
        hint = f"; did you mean {near}?" if near else ""
        report.faults.append(f"{lq_set.path}: no {lq_name} for {gt_names[lq_name]} of {gt_set.path}{hint}")
    report.faults += [f"{gt_set.path}: nothing for {lq_name} of {lq_set.path}" for lq_name in sorted(surplus)]
    both = sorted(gt_names.keys() & lq_set.images)
    return [(gt_set.images[gt_names[name]], lq_set.images[name]) for name in both]


def _readable(pairs: Sequence[Pair]) -> Iterator[list[np.ndarray]]:
    for pair in pairs:
        try:
            yield [decode_image(ref.read()) for ref in pair]
        except _READ_FAULTS:
            continue


def _size_fault(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    if gt.shape[2:] != lq.shape[2:]:
        return "grey and colour do not go together in GT and LR"
    if gt.shape[0] != lq.shape[0] * scale or gt.shape[1] != lq.shape[1] * scale:
        return f"LR {lq.shape[1]}x{lq.shape[0]} times {scale} is not GT {gt.shape[1]}x{gt.shape[0]}"
    return None


def _examine_all(
    sets: Sequence[ImageSet], pairs: Sequence[Pair], look: Callable[[Pair], Findings], workers: int
) -> Findings:
    """Examine every image and pair of one or two sets; compare the shapes with those in the LMDBs' meta_info.txt."""
    # Garbage in LMDB's pages can crash the process that reads them: never this one.
    if any(ref.in_lmdb for images in sets for ref in images.images.values()):
        workers = max(workers, 2)
    total = Findings()
    try:
        for _, findings in work_through(look, pairs, workers, sets[-1].path.name):
            total.faults += findings.faults
            total.shapes.update(findings.shapes)
            total.unlike += findings.unlike
            total.compared += findings.compared
    except WorkerDied:
        total.faults.append(f"{sets[-1].path}: reading it crashed the process; data.mdb is damaged (or memory ran out)")
    for images in sets:
        for key, noted in images.shapes.items():
            found = total.shapes.get(ImageRef(images.path, key, in_lmdb=True), noted)
            if found != noted:
                total.faults.append(f"{images.path}: {key} is {found}; meta_info.txt says {noted}")
    total.faults.sort()
    return total
