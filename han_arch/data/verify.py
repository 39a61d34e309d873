"""Check data sets, folders and LMDBs, alone and as GT-LR pairs, and find out how the LR images were made."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.degradation import DEGRADATIONS, SAME_WAY, UNKNOWN, ScaledDegradation, Verdict, differing, identify
from han_arch.data.image_sets import ImageRef, ImageSet, load_set
from han_arch.data.imresize import BORDERS
from han_arch.data.lmdb_store import LmdbFault
from han_arch.data.parallel import WorkerDied, work_through
from han_arch.errors import nearest
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image

SAMPLE = 9  # pairs on which all conventions are tried; all pairs are then compared with the best one
_PREPARED = re.compile(
    rf"(?P<side>GT|LR)(?P<sub>_sub)?_(?P<kind>{'|'.join(DEGRADATIONS)})?x(?P<scale>\d+)"
    rf"(_(?P<border>{'|'.join(BORDERS[1:])}))?(?P<lmdb>\.lmdb)?"
)
_READ_FAULTS = (ImageError, OSError, KeyError, LmdbFault)


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


@dataclass(frozen=True)
class PairRefs:
    """A GT image and its LR image; no LR image for a set that is checked alone."""

    gt: ImageRef
    lq: ImageRef | None


@dataclass
class PairFindings:
    """The result for one pair.

    Attributes:
        shapes: (height, width, channels) of every image that could be decoded.
        faults: one line each.
        unlike, compared: differing and compared LR samples; the set's convention makes the reference from GT.
    """

    shapes: dict[ImageRef, tuple[int, int, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unlike: int = 0
    compared: int = 0


def verify_folder(path: Path, workers: int) -> Iterator[tuple[str, Report]]:
    """Check a folder: all sets in it that `basicsr data prepare` made, or else its own images.

    Yields:
        (name, report) for each set or pair.
    """
    if any(_PREPARED.fullmatch(inner.name.removesuffix(".partial")) for inner in path.iterdir() if inner.is_dir()):
        yield from _verify_prepared(path, workers)
    else:
        yield str(path), verify_single(path, workers)


def _verify_prepared(root: Path, workers: int) -> Iterator[tuple[str, Report]]:
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
    paired = set()
    for name, path in folders.items():
        match = _PREPARED.fullmatch(name)
        if match is None or match["side"] != "LR":
            continue
        gt_name = f"GT{match['sub'] or ''}_x{match['scale']}{match['lmdb'] or ''}"
        paired |= {gt_name, name}
        scale = int(match["scale"])
        degradation = ScaledDegradation(match["kind"] or "BI", scale, match["border"] or BORDERS[0])
        yield (
            f"{gt_name} and {name}",
            verify_pair(root / gt_name, path, Expectation(scale, degradation, 0.0), workers),
        )
    for name, path in folders.items():
        if _PREPARED.fullmatch(name.removesuffix(".partial")) and name not in paired:
            yield name, verify_single(path, workers)


def verify_single(path: Path, workers: int) -> Report:
    """Check one folder or LMDB: its listing, and that every image can be decoded."""
    images = load_set(path)
    report = Report(faults=list(images.faults))
    if images.images:
        report.notes.append(f"{path}: {len(images.images)} images")
        alone = [PairRefs(ref, None) for ref in images.images.values()]
        _examine_all([images], alone, partial(examine, scale=None, verdict=None), workers, report)
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
    scale = expected.scale or _measured_scale(pairs)
    if scale is None:
        report.faults.append(f"{gt_path} and {lq_path}: no scale from the first readable pair; give --scale")
        return report
    sample = [images for pair in pairs[:: max(1, len(pairs) // SAMPLE)] if (images := _read_pair(pair)) is not None]
    verdict = identify([(gt, lq) for gt, lq in sample if _size_fault(gt, lq, scale) is None], scale)
    wanted = expected.degradation
    if wanted is not None and not verdict.fits(wanted):
        report.faults.append(f"{lq_path}: should be made by {wanted.name}; it is made by {verdict}")
    look = partial(examine, scale=scale, verdict=verdict, tolerance=expected.tolerance)
    unlike, compared = _examine_all([gt_set, lq_set], pairs, look, workers, report)
    share = f": {unlike} of {compared} samples differ ({unlike / compared:.4%})" if compared else ""
    report.notes.append(f"{lq_path}: x{scale}, made by {verdict}{share}")
    return report


def infer_template(gt_names: Sequence[str], lq_names: Sequence[str]) -> str:
    """Find the template, such as "{}x4", that turns most GT names into LR names: BasicSR's `filename_tmpl`."""
    first = min(gt_names)
    known = set(lq_names)
    templates = {"{}"} | {name.replace(first, "{}", 1) for name in lq_names if first in name}
    return max(sorted(templates), key=lambda template: sum(template.replace("{}", name) in known for name in gt_names))


def examine(pair: PairRefs, scale: int | None, verdict: Verdict | None, tolerance: float = SAME_WAY) -> PairFindings:
    """Decode a pair and compare its images; runs in worker processes.

    Args:
        pair: one or two images.
        scale: HR side / LR side; not used for one image.
        verdict: how the set's LR images were made; an LR image made in another way is a fault.
        tolerance: share of LR samples that may differ from the result of the verdict's convention.
    """
    findings = PairFindings()
    decoded = []
    for ref in (pair.gt, pair.lq):
        if ref is None:
            continue
        try:
            pixels = decode_image(ref.read())
        except _READ_FAULTS as error:
            findings.faults.append(f"{ref}: {error}")
            continue
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            findings.faults.append(f"{ref}: has an alpha channel, which BasicSR drops silently")
        findings.shapes[ref] = (*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1)
        decoded.append(pixels)
    if len(decoded) == 2 and scale is not None:
        gt, lq = decoded
        fault = _size_fault(gt, lq, scale)
        if fault is not None:
            findings.faults.append(f"{pair.lq}: {fault}")
        elif verdict is not None and verdict.name != UNKNOWN:
            findings.unlike, findings.compared = differing(gt, lq, scale, verdict.name, verdict.edge)
            if findings.unlike > tolerance * findings.compared:
                share = f"{findings.unlike} of {findings.compared} samples"
                findings.faults.append(f"{pair.lq}: {share} are not what {verdict} makes of its GT; not its pair?")
    return findings


def _match_names(gt_set: ImageSet, lq_set: ImageSet, report: Report) -> list[PairRefs]:
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
    return [PairRefs(gt_set.images[gt_names[name]], lq_set.images[name]) for name in both]


def _read_pair(pair: PairRefs) -> tuple[np.ndarray, np.ndarray] | None:
    try:
        return (decode_image(pair.gt.read()), decode_image(pair.lq.read())) if pair.lq else None
    except _READ_FAULTS:
        return None


def _measured_scale(pairs: Sequence[PairRefs]) -> int | None:
    images = next((images for pair in pairs if (images := _read_pair(pair)) is not None), None)
    return images[0].shape[0] // images[1].shape[0] or None if images else None


def _size_fault(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    if gt.shape[2:] != lq.shape[2:]:
        return "grey and colour do not go together in GT and LR"
    if gt.shape[0] != lq.shape[0] * scale or gt.shape[1] != lq.shape[1] * scale:
        return f"LR {lq.shape[1]}x{lq.shape[0]} times {scale} is not GT {gt.shape[1]}x{gt.shape[0]}"
    return None


def _examine_all(
    sets: Sequence[ImageSet],
    pairs: Sequence[PairRefs],
    look: Callable[[PairRefs], PairFindings],
    workers: int,
    report: Report,
) -> tuple[int, int]:
    """Examine every image and pair, add the faults to the report, return differing and compared LR samples."""
    # Garbage in LMDB's pages can crash the process that reads them: never this one.
    if any(ref.in_lmdb for images in sets for ref in images.images.values()):
        workers = max(workers, 2)
    faults, shapes, unlike, compared = [], {}, 0, 0
    try:
        for _, findings in work_through(look, pairs, workers, sets[-1].path.name):
            faults += findings.faults
            shapes.update(findings.shapes)
            unlike += findings.unlike
            compared += findings.compared
    except WorkerDied:
        faults.append(f"{sets[-1].path}: reading it crashed the process; data.mdb is damaged (or memory ran out)")
    for images in sets:
        for key, noted in images.shapes.items():
            found = shapes.get(ImageRef(images.path, key, in_lmdb=True), noted)
            if found != noted:
                faults.append(f"{images.path}: {key} is {found}; meta_info.txt says {noted}")
    report.faults += sorted(faults)
    return unlike, compared
