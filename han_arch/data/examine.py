"""What is looked at in one image or one GT-LR pair; runs in worker processes."""

from dataclasses import dataclass, field

import numpy as np

from han_arch.data.conventions import SAME_WAY, UNKNOWN, Verdict, differing
from han_arch.data.image_sets import ImageRef
from han_arch.data.lmdb_check import LmdbFault
from han_arch.images.strict import ImageError, decode_image

READ_FAULTS = (ImageError, OSError, KeyError, LmdbFault)


@dataclass(frozen=True)
class Pair:
    """A GT image and, unless it is checked alone, its LR image."""

    gt: ImageRef
    lq: ImageRef | None


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray] | None:
    """Both images; None when there is one only or one cannot be read."""
    try:
        return (decode_image(pair.gt.read()), decode_image(pair.lq.read())) if pair.lq else None
    except READ_FAULTS:
        return None


@dataclass
class Findings:
    """What was seen of one pair.

    Attributes:
        shapes: (height, width, channels) of every image that could be decoded.
        faults: one line each.
        unlike, compared: samples of LR that differ from what the set's convention makes of GT, and all that were
            compared.
    """

    shapes: dict[ImageRef, tuple[int, int, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unlike: int = 0
    compared: int = 0


def examine(pair: Pair, scale: int | None, verdict: Verdict | None, tolerance: float = SAME_WAY) -> Findings:
    """Decode a pair and compare its images.

    Args:
        pair: one or two images.
        scale: HR side / LR side; not used for one image.
        verdict: how the set's LR images were made; an LR image made otherwise is a fault.
        tolerance: share of LR samples that may differ from what the verdict's convention makes.
    """
    findings = Findings()
    decoded = []
    for ref in (pair.gt, pair.lq):
        if ref is None:
            continue
        try:
            pixels = decode_image(ref.read())
        except READ_FAULTS as error:
            findings.faults.append(f"{ref}: {error}")
            continue
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            findings.faults.append(f"{ref}: has an alpha channel, which BasicSR drops silently")
        findings.shapes[ref] = (*pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1)
        decoded.append(pixels)
    if len(decoded) == 2 and scale is not None:
        gt, lq = decoded
        fault = size_fault(gt, lq, scale)
        if fault is not None:
            findings.faults.append(f"{pair.lq}: {fault}")
        elif verdict is not None and verdict.name != UNKNOWN:
            findings.unlike, findings.compared = differing(gt, lq, scale, verdict.name, verdict.edge)
            if findings.unlike > tolerance * findings.compared:
                share = f"{findings.unlike} of {findings.compared} samples"
                findings.faults.append(f"{pair.lq}: {share} are not what {verdict} makes of its GT; not its pair?")
    return findings


def size_fault(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    """Why two images (uint8, (h, w) or (h, w, c)) cannot be a pair at this scale; None when they can."""
    if gt.shape[2:] != lq.shape[2:]:
        return "grey and colour do not go together in GT and LR"
    if gt.shape[0] != lq.shape[0] * scale or gt.shape[1] != lq.shape[1] * scale:
        return f"LR {lq.shape[1]}x{lq.shape[0]} times {scale} is not GT {gt.shape[1]}x{gt.shape[0]}"
    return None
