"""Checks data sets, folders and LMDBs, alone and as GT-LR pairs, and says how the LR images were made."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import numpy as np

from han_arch.data.conventions import SAME_WAY, Verdict, differing, identify
from han_arch.data.image_sets import ImageRef, ImageSet, load_set
from han_arch.data.images import ImageError, decode_image
from han_arch.data.parallel import WorkerDied, work_through

SAMPLE = 9  # images that are tried with all conventions; the one that made most of them is then tried with all images
PREPARED = re.compile(r"(?P<side>GT|LR)(?P<sub>_sub)?_(?P<label>(BI|BD)?x(?P<scale>\d+)(_replicate)?)(?P<lmdb>\.lmdb)?")


@dataclass
class Report:
    """What was found in one set or pair: notes to tell, faults that make it bad; one line each."""

    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """A GT image and, unless it is checked alone, its LR image."""

    gt: ImageRef
    lq: ImageRef | None


def verify_root(root: Path, workers: int) -> Iterator[tuple[str, Report]]:
    """Check everything that `basicsr data prepare` made in a folder; gives (what, report) one by one."""
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir()}
    paired = set()
    for name, path in folders.items():
        match = PREPARED.fullmatch(name)
        if match is None or match["side"] != "LR":
            continue
        gt_name = f"GT{match['sub'] or ''}_x{match['scale']}{match['lmdb'] or ''}"
        paired |= {gt_name, name}
        yield f"{gt_name} and {name}", verify_pair(root / gt_name, path, int(match["scale"]), match["label"], workers)
    for name, path in folders.items():
        match = PREPARED.fullmatch(name.removesuffix(".partial"))
        if match is not None and name not in paired:
            yield name, verify_single(path, workers)


def verify_single(path: Path, workers: int) -> Report:
    """Check one folder or LMDB: its listing, and that every image can be decoded."""
    images = load_set(path)
    report = Report(faults=list(images.faults))
    if images.images:
        report.notes.append(f"{path}: {len(images.images)} images")
        _decode_all(images, [Pair(ref, None) for ref in images.images.values()], None, None, workers, report)
    return report


def verify_pair(gt_path: Path, lq_path: Path, scale: int | None, wanted: str | None, workers: int) -> Report:
    """Check a GT set and its LR set.

    Args:
        gt_path: folder or LMDB of HR images.
        lq_path: folder or LMDB of LR images; their names are those of GT put into one template, such as "{}x4".
        scale: HR side / LR side; None takes what the first pair has.
        wanted: name of the degradation that must have made LR; None takes any.
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
    scale = scale or _measured_scale(pairs)
    if scale is None:
        report.faults.append(f"{gt_path} and {lq_path}: no scale from the first readable pair; give --scale")
        return report
    verdict = _identify_sample(pairs, scale)
    report.notes.append(f"{lq_path}: x{scale}, made by {verdict}")
    if wanted is not None and not _fits(verdict, wanted):
        report.faults.append(f"{lq_path}: should be made by {wanted}; it is made by {verdict}")
    _decode_all(lq_set, pairs, scale, verdict, workers, report, gt_set)
    return report


def infer_template(gt_names: Sequence[str], lq_names: Sequence[str]) -> str:
    """The template, such as "{}x4", that turns most GT names into LR names: BasicSR's `filename_tmpl`."""
    first = min(gt_names)
    known = set(lq_names)
    templates = {"{}"} | {name.replace(first, "{}", 1) for name in lq_names if first in name}
    return max(sorted(templates), key=lambda template: sum(template.format(name) in known for name in gt_names))


def _match_names(gt_set: ImageSet, lq_set: ImageSet, report: Report) -> list[Pair]:
    template = infer_template(list(gt_set.images), list(lq_set.images))
    if template != "{}":
        report.notes.append(f"{lq_set.path}: names are those of GT in filename_tmpl: '{template}'")
    lq_names = {template.format(name): name for name in gt_set.images}
    for lq_name in sorted(lq_names.keys() - lq_set.images):
        near = get_close_matches(lq_name, lq_set.images.keys() - lq_names.keys(), 1)
        hint = f"; is it {near[0]}?" if near else ""
        report.faults.append(f"{lq_set.path}: no {lq_name} for {lq_names[lq_name]} of {gt_set.path}{hint}")
    for lq_name in sorted(lq_set.images.keys() - lq_names):
        report.faults.append(f"{gt_set.path}: nothing for {lq_name} of {lq_set.path}")
    both = sorted(lq_names.keys() & lq_set.images)
    return [Pair(gt_set.images[lq_names[name]], lq_set.images[name]) for name in both]


def _read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray] | None:
    """Both images, None when one cannot be read (which is reported where all images are looked at)."""
    try:
        return (decode_image(pair.gt.read()), decode_image(pair.lq.read())) if pair.lq else None
    except (ImageError, OSError, KeyError):
        return None


def _measured_scale(pairs: Sequence[Pair]) -> int | None:
    for pair in pairs:
        images = _read_pair(pair)
        if images is not None:
            gt, lq = images
            return gt.shape[0] // lq.shape[0] or None
    return None


def _identify_sample(pairs: Sequence[Pair], scale: int) -> Verdict:
    sample = []
    for pair in pairs[:: max(1, len(pairs) // SAMPLE)]:
        images = _read_pair(pair)
        if images is not None and _size_fault(*images, scale) is None:
            sample.append(images)
    return identify(sample, scale)


def _fits(verdict: Verdict, wanted: str) -> bool:
    if wanted.startswith("BD"):
        return verdict.name == "BD"
    border = "replicate" if wanted.endswith("_replicate") else "symmetric"
    return verdict.name == f"BI {border}" or (verdict.edge > 0 and verdict.name.startswith("BI "))


def _decode_all(
    images: ImageSet,
    pairs: Sequence[Pair],
    scale: int | None,
    verdict: Verdict | None,
    workers: int,
    report: Report,
    gt_set: ImageSet | None = None,
) -> None:
    """Look at every image and pair; the faults go to the report."""
    look = partial(examine, scale=scale, verdict=verdict)
    # Garbage in LMDB's pages can end the process that reads them: not this one.
    workers = max(workers, 2) if any(pair.gt.in_lmdb or (pair.lq and pair.lq.in_lmdb) for pair in pairs) else workers
    faults = []
    shapes = {}
    try:
        for pair, (seen, pair_faults) in work_through(look, pairs, workers, images.path.name):
            faults += pair_faults
            shapes.update(seen)
    except WorkerDied:
        faults.append(f"{images.path}: reading it ended the process; data.mdb is damaged (or memory ran out)")
    for listed in (images, gt_set):
        for key, shape in listed.shapes.items() if listed else ():
            found = shapes.get(ImageRef(listed.path, key, in_lmdb=True), shape)
            if found != shape:
                faults.append(f"{listed.path}: {key} is {found}; meta_info.txt says {shape}")
    report.faults += sorted(faults)


def examine(
    pair: Pair, scale: int | None, verdict: Verdict | None
) -> tuple[dict[ImageRef, tuple[int, int, int]], list[str]]:
    """Decode a pair and compare its images.

    Args:
        pair: one or two images.
        scale: HR side / LR side; not used for one image.
        verdict: how the set's LR images were made; an LR image made otherwise is a fault.

    Returns:
        (height, width, channels) of every image that could be decoded, and the faults.
    """
    decoded, shapes, faults = [], {}, []
    for ref in (pair.gt, pair.lq):
        if ref is None:
            continue
        try:
            pixels = decode_image(ref.read())
        except (ImageError, OSError, KeyError) as error:
            faults.append(f"{ref}: {error}")
            continue
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            faults.append(f"{ref}: has an alpha channel, which BasicSR drops silently")
        shapes[ref] = (*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1)
        decoded.append(pixels)
    if len(decoded) == 2 and scale is not None:
        fault = _size_fault(*decoded, scale) or _content_fault(*decoded, scale, verdict)
        faults += [f"{pair.lq}: {fault}"] if fault else []
    return shapes, faults


def _size_fault(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    if gt.shape[2:] != lq.shape[2:]:
        return "grey and colour do not go together in GT and LR"
    if gt.shape[0] != lq.shape[0] * scale or gt.shape[1] != lq.shape[1] * scale:
        return f"LR {lq.shape[1]}x{lq.shape[0]} times {scale} is not GT {gt.shape[1]}x{gt.shape[0]}"
    return None


def _content_fault(gt: np.ndarray, lq: np.ndarray, scale: int, verdict: Verdict | None) -> str | None:
    if verdict is None or verdict.name == "unknown":
        return None
    unlike, compared = differing(gt, lq, scale, verdict.name, verdict.edge)
    if compared and unlike / compared > SAME_WAY:
        return f"{unlike / compared:.2%} of the samples are not what {verdict.name} makes of its GT; not its pair?"
    return None
