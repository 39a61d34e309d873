"""Checks data sets, folders and LMDBs, alone and as GT-LR pairs, and says how the LR images were made."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from han_arch.data.conventions import SAME_WAY, Verdict, identify
from han_arch.data.examine import Findings, Pair, examine, read_pair, size_fault
from han_arch.data.image_sets import ImageRef, ImageSet, load_set
from han_arch.data.parallel import WorkerDied, work_through

SAMPLE = 9  # images that are tried with all conventions; the one that made most of them is then tried with all images
PREPARED = re.compile(r"(?P<side>GT|LR)(?P<sub>_sub)?_(?P<label>(BI|BD)?x(?P<scale>\d+)(_replicate)?)(?P<lmdb>\.lmdb)?")


@dataclass
class Report:
    """What was found in one set or pair: notes to tell, faults that make it bad; one line each."""

    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


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
        yield (
            f"{gt_name} and {name}",
            verify_pair(root / gt_name, path, int(match["scale"]), match["label"], workers, 0.0),
        )
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
        alone = [Pair(ref, None) for ref in images.images.values()]
        _look_at_all([images], alone, partial(examine, scale=None, verdict=None), workers, report)
    return report


def verify_pair(
    gt_path: Path, lq_path: Path, scale: int | None, wanted: str | None, workers: int, tolerance: float = SAME_WAY
) -> Report:
    """Check a GT set and its LR set.

    Args:
        gt_path: folder or LMDB of HR images.
        lq_path: folder or LMDB of LR images; their names are those of GT put into one template, such as "{}x4".
        scale: HR side / LR side; None takes what the first pair has.
        wanted: name of the degradation that must have made LR; None takes any.
        workers: processes.
        tolerance: share of an LR image's samples that may differ; 0 for what `basicsr data prepare` made.

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
    if wanted is not None and not _fits(verdict, wanted):
        report.faults.append(f"{lq_path}: should be made by {wanted}; it is made by {verdict}")
    look = partial(examine, scale=scale, verdict=verdict, tolerance=tolerance)
    unlike, compared = _look_at_all([gt_set, lq_set], pairs, look, workers, report)
    share = f": {unlike} of {compared} samples differ ({unlike / compared:.4%})" if compared else ""
    report.notes.append(f"{lq_path}: x{scale}, made by {verdict}{share}")
    return report


def infer_template(gt_names: Sequence[str], lq_names: Sequence[str]) -> str:
    """The template, such as "{}x4", that turns most GT names into LR names: BasicSR's `filename_tmpl`."""
    first = min(gt_names)
    known = set(lq_names)
    templates = {"{}"} | {name.replace(first, "{}", 1) for name in lq_names if first in name}
    return max(sorted(templates), key=lambda template: sum(template.replace("{}", name) in known for name in gt_names))


def _match_names(gt_set: ImageSet, lq_set: ImageSet, report: Report) -> list[Pair]:
    template = infer_template(list(gt_set.images), list(lq_set.images))
    if template != "{}":
        report.notes.append(f"{lq_set.path}: names are those of GT in filename_tmpl: '{template}'")
    lq_names = {template.replace("{}", name): name for name in gt_set.images}
    for lq_name in sorted(lq_names.keys() - lq_set.images):
        near = get_close_matches(lq_name, lq_set.images.keys() - lq_names.keys(), 1)
        hint = f"; is it {near[0]}?" if near else ""
        report.faults.append(f"{lq_set.path}: no {lq_name} for {lq_names[lq_name]} of {gt_set.path}{hint}")
    for lq_name in sorted(lq_set.images.keys() - lq_names):
        report.faults.append(f"{gt_set.path}: nothing for {lq_name} of {lq_set.path}")
    both = sorted(lq_names.keys() & lq_set.images)
    return [Pair(gt_set.images[lq_names[name]], lq_set.images[name]) for name in both]


def _measured_scale(pairs: Sequence[Pair]) -> int | None:
    for pair in pairs:
        images = read_pair(pair)
        if images is not None:
            gt, lq = images
            return gt.shape[0] // lq.shape[0] or None
    return None


def _identify_sample(pairs: Sequence[Pair], scale: int) -> Verdict:
    sample = []
    for pair in pairs[:: max(1, len(pairs) // SAMPLE)]:
        images = read_pair(pair)
        if images is not None and size_fault(*images, scale) is None:
            sample.append(images)
    return identify(sample, scale)


def _fits(verdict: Verdict, wanted: str) -> bool:
    if wanted.startswith("BD"):
        return verdict.name == "BD"
    border = "replicate" if wanted.endswith("_replicate") else "symmetric"
    return verdict.name == f"BI {border}" or (verdict.edge > 0 and verdict.name.startswith("BI "))


def _look_at_all(
    sets: Sequence[ImageSet],
    pairs: Sequence[Pair],
    look: Callable[[Pair], Findings],
    workers: int,
    report: Report,
) -> tuple[int, int]:
    """Look at every image and pair; returns how many LR samples differ from the convention's, and of how many."""
    # Garbage in LMDB's pages can end the process that reads them: not this one.
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
        faults.append(f"{sets[-1].path}: reading it ended the process; data.mdb is damaged (or memory ran out)")
    for images in sets:
        for key, noted in images.shapes.items():
            found = shapes.get(ImageRef(images.path, key, in_lmdb=True), noted)
            if found != noted:
                faults.append(f"{images.path}: {key} is {found}; meta_info.txt says {noted}")
    report.faults += sorted(faults)
    return unlike, compared
