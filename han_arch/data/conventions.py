"""Which of the ways in use made an LR image from its HR: told by making it again and counting what differs."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from han_arch import compat
from han_arch.data.degradation import blur_down
from han_arch.data.imresize import imresize

# An image made the same way differs nowhere, or in a few ties that another program rounded otherwise. BasicSR's
# imresize, the nearest of the others, differs from MATLAB's in 11 % of the samples and more.
SAME_WAY = 0.02
# LR pixels at the edge of a sub-image depend on HR pixels outside it.
EDGE = 4
UNKNOWN = "unknown"


def _basicsr(gt: np.ndarray, scale: int) -> np.ndarray:
    compat.require_basicsr()
    from basicsr.utils.matlab_functions import imresize as basicsr_imresize

    small = basicsr_imresize(gt.astype(np.float32) / 255, 1 / scale)
    return (np.asarray(small).clip(0, 1) * 255).round().astype(np.uint8)


def _opencv(gt: np.ndarray, scale: int) -> np.ndarray:
    return cv2.resize(gt, (gt.shape[1] // scale, gt.shape[0] // scale), interpolation=cv2.INTER_CUBIC)


def _pillow(gt: np.ndarray, scale: int) -> np.ndarray:
    size = (gt.shape[1] // scale, gt.shape[0] // scale)
    return np.asarray(Image.fromarray(gt).resize(size, Image.Resampling.BICUBIC))


CONVENTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "BI symmetric": lambda gt, scale: imresize(gt, 1 / scale, "symmetric"),
    "BI replicate": lambda gt, scale: imresize(gt, 1 / scale, "replicate"),
    "BD": blur_down,
    "OpenCV's bicubic": _opencv,
    "Pillow's bicubic": _pillow,
    "BasicSR's imresize": _basicsr,
}
# BasicSR's comes last, since it alone needs torch.
CHEAP = tuple(name for name in CONVENTIONS if CONVENTIONS[name] is not _basicsr)


@dataclass(frozen=True)
class Verdict:
    """How LR images were made.

    Attributes:
        name: a key of `CONVENTIONS`, or `UNKNOWN`.
        edge: LR pixels at the border that were left out, since these are parts of larger images.
        shares: share of differing samples, 0..1, of every convention that was tried.
    """

    name: str
    edge: int
    shares: dict[str, float]

    def __str__(self) -> str:
        if self.name == UNKNOWN:
            return "an unknown convention; samples that differ: " + ", ".join(
                f"{name} {share:.2%}" for name, share in self.shares.items()
            )
        if not self.edge:
            return self.name
        # Inside, the border conventions are one.
        return f"{self.name.split()[0] if self.name.startswith('BI ') else self.name} (edges not compared)"


def differing(gt: np.ndarray, lq: np.ndarray, scale: int, convention: str, edge: int = 0) -> tuple[int, int]:
    """Count the samples in which an LR image differs from what a convention makes.

    Args:
        gt: uint8, (scale * h, scale * w) or with channels.
        lq: uint8, (h, w) or with channels, as `gt`.
        scale: HR side / LR side.
        convention: a key of `CONVENTIONS`.
        edge: LR pixels at each border that are not compared.

    Returns:
        Differing samples, and samples compared.
    """
    made = CONVENTIONS[convention](gt, scale)
    inside = slice(edge, -edge or None)
    unlike = made[inside, inside] != lq[inside, inside]
    return int(unlike.sum()), unlike.size


def identify(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int) -> Verdict:
    """Tell the convention that made most of the LR images of (gt, lq) pairs as in `differing`."""
    shares: dict[str, float] = {}
    for names in (CHEAP, tuple(CONVENTIONS)):
        whole, inside = (_best(pairs, scale, names, edge) for edge in (0, EDGE))
        # Sub-images differ at their edges only; with whole images, leaving the edges out changes little.
        verdict = inside if inside.shares[inside.name] < whole.shares[whole.name] / 4 else whole
        if verdict.shares[verdict.name] <= SAME_WAY:
            return verdict
        shares = whole.shares
    return Verdict(UNKNOWN, 0, shares)


def _best(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int, names: tuple[str, ...], edge: int) -> Verdict:
    shares = {}
    for name in names:
        shares[name] = _median_share(pairs, scale, name, edge)
        if shares[name] == 0:
            break
    return Verdict(min(shares, key=lambda name: shares[name]), edge, shares)


def _median_share(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int, convention: str, edge: int) -> float:
    counts = [differing(gt, lq, scale, convention, edge) for gt, lq in pairs]
    known = [unlike / compared for unlike, compared in counts if compared]
    return float(np.median(known)) if known else 1.0
