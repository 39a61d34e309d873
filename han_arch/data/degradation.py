"""The degradations that make LR images from HR images, and how to recognise which one made an LR image.

To add a degradation, add its record to `DEGRADATIONS`. Names, checks, help texts and `identify` follow from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from PIL import Image

from han_arch import compat
from han_arch.data.imresize import BORDERS, imresize
from han_arch.errors import UserError, unknown

BD_KERNEL_SIZE, BD_SIGMA, BD_PHASE = 7, 1.6, 1


def bicubic(gt: np.ndarray, scale: int, border: str) -> np.ndarray:
    """Shrink an image (uint8, (h, w) or (h, w, c)) as MATLAB's `imresize` does; `border` is one of `BORDERS`."""
    return imresize(gt, 1 / scale, border)


def blur_down(gt: np.ndarray, scale: int, border: str) -> np.ndarray:
    """Blur an image (uint8, (h, w) or (h, w, c)), round to 8 bits, keep the pixels [1::scale, 1::scale]: BD.

    `border` is not used: the blur always repeats the edge pixel.

    Source: a 7x7 Gaussian of sigma 1.6, normalised; the papers use scale 3 only. The bicubic upscaling of this kernel,
    border and phase gives the published BD rows.
    """
    kernel = cv2.getGaussianKernel(BD_KERNEL_SIZE, BD_SIGMA, cv2.CV_64F)
    blurred = cv2.sepFilter2D(gt.astype(np.float64), cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    kept = blurred.reshape(gt.shape)[BD_PHASE::scale, BD_PHASE::scale]
    return np.floor(kept + 0.5).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Degradation:
    """A way to make LR images from HR images.

    Attributes:
        name: the kind in options, commands and tables, such as "BI"; letters only.
        doc: the operation in words, for "photos shrunk by MATLAB's bicubic".
        make: function of gt (uint8, (h, w) or (h, w, c), sides multiples of the scale), scale and border;
            returns lq (uint8, sides divided by the scale).
        scales: the scales that have a name, such as BIx4.
        borders: the border conventions that lead to different LR images.
    """

    name: str
    doc: str
    make: Callable[[np.ndarray, int, str], np.ndarray]
    scales: tuple[int, ...]
    borders: tuple[str, ...] = BORDERS[:1]

    def convention(self, border: str) -> str:
        """Return the name of LR images of this kind in `CONVENTIONS`."""
        return f"{self.name} {border}" if len(self.borders) > 1 else self.name


DEGRADATIONS = {
    record.name: record
    for record in (
        Degradation("BI", "MATLAB's bicubic", bicubic, (2, 3, 4, 8), BORDERS),
        Degradation("BD", "a Gaussian blur and decimation", blur_down, (3,)),
    )
}


@dataclass(frozen=True)
class ScaledDegradation:
    """A degradation at one scale, such as BIx4.

    Attributes:
        kind: a key of `DEGRADATIONS`.
        scale: HR side / LR side.
        border: the pixels outside the image for `imresize`, one of `BORDERS`.
    """

    kind: str
    scale: int
    border: str = BORDERS[0]

    @property
    def name(self) -> str:
        """The name in options, commands and folders: "BIx4", or "BIx4_replicate" with the border of RCAN's files."""
        return f"{self.kind}x{self.scale}" + ("" if self.border == BORDERS[0] else f"_{self.border}")

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """Make the LR image (uint8, (h / scale, w / scale) or with channels) of a mod-cropped HR image.

        Raises:
            ValueError: a side of `gt` (uint8, (h, w) or (h, w, c)) is not a multiple of the scale.
        """
        height, width = gt.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(f"{self.name} needs sides that are multiples of {self.scale}; got {height}x{width}")
        return DEGRADATIONS[self.kind].make(gt, self.scale, self.border)

    def upscale(self, lq: np.ndarray) -> np.ndarray:
        """Enlarge an LR image (uint8, (h, w) or (h, w, c)) to HR size: the "Bicubic" row of the tables."""
        return imresize(lq, self.scale, self.border)


def all_degradations() -> dict[str, ScaledDegradation]:
    """Return every kind at each of its scales and borders, by name."""
    every = [
        ScaledDegradation(record.name, scale, border)
        for record in DEGRADATIONS.values()
        for border in record.borders
        for scale in record.scales
    ]
    return {degradation.name: degradation for degradation in every}


def get_degradation(name: str) -> ScaledDegradation:
    """Return the degradation of a name such as "BIx4"; UserError with the nearest name if there is none."""
    known = all_degradations()
    if name in known:
        return known[name]
    kind, _, scale = name.partition("x")
    if kind in DEGRADATIONS and scale.isdigit():
        return degradation_at(kind, int(scale))  # raises with the scales of this kind
    raise unknown("degradation", name, known)


def degradation_at(kind: str, scale: int, border: str = BORDERS[0]) -> ScaledDegradation:
    """Return the degradation of a kind at a scale; a border that the kind does not distinguish has no effect.

    Raises:
        UserError: no such kind, or not at this scale.
    """
    if kind not in DEGRADATIONS:
        raise unknown("degradation", kind, DEGRADATIONS)
    record = DEGRADATIONS[kind]
    if scale not in record.scales:
        names = ", ".join(f"{kind}x{known}" for known in record.scales)
        raise UserError(f"no degradation '{kind}x{scale}', only {names}")
    return ScaledDegradation(kind, scale, border if border in record.borders else BORDERS[0])


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Cut the image (h, w) or (h, w, c) at the bottom and right to sides that are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


# The same convention reproduces an image without a difference, or with a few ties that another program rounded the
# other way. BasicSR's imresize, the nearest of the others, differs from MATLAB's in 11 % of the samples and more.
SAME_WAY = 0.02
# LR pixels at the edge of a sub-image depend on HR pixels outside it.
EDGE = 4
UNKNOWN = "unknown"


def _ours(record: Degradation, border: str, gt: np.ndarray, scale: int) -> np.ndarray:
    return record.make(gt, scale, border)


def _opencv(gt: np.ndarray, scale: int) -> np.ndarray:
    return cv2.resize(gt, (gt.shape[1] // scale, gt.shape[0] // scale), interpolation=cv2.INTER_CUBIC)


def _pillow(gt: np.ndarray, scale: int) -> np.ndarray:
    image = Image.fromarray(gt)
    return np.asarray(image.resize((image.width // scale, image.height // scale), Image.Resampling.BICUBIC))


def _basicsr(gt: np.ndarray, scale: int) -> np.ndarray:
    compat.require_basicsr()
    from basicsr.utils.matlab_functions import imresize as basicsr_imresize

    small = basicsr_imresize(gt.astype(np.float32) / 255, 1 / scale)
    return (np.asarray(small).clip(0, 1) * 255).round().astype(np.uint8)


# The conventions that `identify` tries: our degradations, then other programs.
CONVENTIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    **{
        record.convention(border): partial(_ours, record, border)
        for record in DEGRADATIONS.values()
        for border in record.borders
    },
    "OpenCV's bicubic": _opencv,
    "Pillow's bicubic": _pillow,
    "BasicSR's imresize": _basicsr,
}
_CHEAP = tuple(name for name, make in CONVENTIONS.items() if make is not _basicsr)  # BasicSR alone needs torch


@dataclass(frozen=True)
class Verdict:
    """The convention that made LR images.

    Attributes:
        name: a key of `CONVENTIONS`, or `UNKNOWN`.
        edge: LR pixels at the border that were not compared, because the images are parts of larger ones.
        shares: share of differing samples, 0..1, for every convention that was tried.
    """

    name: str
    edge: int
    shares: dict[str, float]

    def fits(self, wanted: ScaledDegradation) -> bool:
        """Whether this is how `wanted` makes LR images; without the edges, all borders of a kind are equal."""
        exact = DEGRADATIONS[wanted.kind].convention(wanted.border)
        return self.name == exact or (self.edge > 0 and self.name.split()[0] == wanted.kind)

    def __str__(self) -> str:
        if self.name == UNKNOWN:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items())
            return f"an unknown convention; samples that differ: {shares}"
        if not self.edge:
            return self.name
        kind = self.name.split()[0]
        return f"{kind if kind in DEGRADATIONS else self.name} (edges not compared)"


def differing(gt: np.ndarray, lq: np.ndarray, scale: int, convention: str, edge: int = 0) -> tuple[int, int]:
    """Count the samples in which an LR image differs from the one that a convention makes, and the compared samples.

    Args:
        gt: uint8, (scale * h, scale * w) or with channels.
        lq: uint8, (h, w) or with channels, as `gt`.
        scale: HR side / LR side.
        convention: a key of `CONVENTIONS`.
        edge: LR pixels at each border that are not compared.
    """
    made = CONVENTIONS[convention](gt, scale)
    inside = slice(edge, -edge or None)
    unlike = made[inside, inside] != lq[inside, inside]
    return int(unlike.sum()), unlike.size


def identify(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int) -> Verdict:
    """Find the convention that made most of the LR images of (gt, lq) pairs as in `differing`."""
    shares: dict[str, float] = {}
    for names in (_CHEAP, tuple(CONVENTIONS)):
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
        counts = [differing(gt, lq, scale, name, edge) for gt, lq in pairs]
        known = [unlike / compared for unlike, compared in counts if compared]
        shares[name] = float(np.median(known)) if known else 1.0
        if shares[name] == 0:
            break
    return Verdict(min(shares, key=shares.__getitem__), edge, shares)
