"""Degradations, which make LR images from HR images, and `identify`, which finds out how LR images were made.

To add a degradation, add its record to `DEGRADATIONS`. Names, checks, help texts and `identify` then include it.
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
from han_arch.images.picture import upright


def bicubic(gt: np.ndarray, scale: int, border: str) -> np.ndarray:
    """Shrink a uint8 image of shape (h, w) or (h, w, c) like MATLAB's `imresize`; `border` is one of `BORDERS`."""
    return imresize(gt, 1 / scale, border)


def blur_down(gt: np.ndarray, scale: int, border: str) -> np.ndarray:
    """Apply the degradation BD to an image: blur the image, then keep every `scale`-th pixel.

    The image is uint8 with the shape (h, w) or (h, w, c). The blur is a normalised 7x7 Gaussian (sigma 1.6). The kept
    pixels are [1::scale, 1::scale], rounded to 8 bits. `border` has no effect: the blur always repeats the edge pixels.

    Source: the papers use BD only at scale 3. As a test, LR images that this function made were upscaled
    bicubically. Their scores are the same as in the papers.
    """
    kernel = cv2.getGaussianKernel(7, 1.6, cv2.CV_64F)
    blurred = cv2.sepFilter2D(gt.astype(np.float64), cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    kept = blurred.reshape(gt.shape)[1::scale, 1::scale]
    return np.floor(kept + 0.5).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Degradation:
    """An operation that makes LR images from HR images."""

    name: str  # name in options, commands and tables, such as "BI"; letters only
    doc: str  # end of the sentence "photos shrunk by ...", such as "MATLAB's bicubic"
    # Function (gt, scale, border) -> lq. Images are uint8, (h, w) or (h, w, c); gt's sides are multiples of the scale.
    make: Callable[[np.ndarray, int, str], np.ndarray]
    scales: tuple[int, ...]  # the scales at which the degradation exists; BI at scale 4 is called BIx4
    borders: tuple[str, ...] = BORDERS[:1]  # the borders that give different LR images; the first if all give the same

    def convention(self, border: str) -> str:
        """Return the key in `CONVENTIONS` for this degradation with the given border."""
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
    """A degradation at one scale, such as BIx4."""

    kind: str  # a key of `DEGRADATIONS`, such as "BI"
    scale: int  # HR side / LR side
    border: str = BORDERS[0]

    @property
    def name(self) -> str:
        """Name in options, commands and folders: "BIx4", or "BIx4_replicate" if the border is "replicate"."""
        return f"{self.kind}x{self.scale}" + ("" if self.border == BORDERS[0] else f"_{self.border}")

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """Make the LR image of an HR image; raise ValueError if an HR side is not a multiple of the scale.

        The image is uint8 with the shape (h, w) or (h, w, c). If needed, crop it with `mod_crop` first.
        """
        height, width = gt.shape[:2]
        if height % self.scale or width % self.scale:
            wanted = f"height and width must be multiples of {self.scale}"
            raise ValueError(f"{self.name}: {wanted}; got {height}x{width}")
        return DEGRADATIONS[self.kind].make(gt, self.scale, self.border)

    def upscale(self, lq: np.ndarray) -> np.ndarray:
        """Enlarge a uint8 LR image, (h, w) or (h, w, c), to HR size by bicubic interpolation ("Bicubic" in tables)."""
        return imresize(lq, self.scale, self.border)


def all_degradations() -> dict[str, ScaledDegradation]:
    """Return a dict of all degradations, with an entry for each scale and border. The keys are names such as "BIx4"."""
    every = [
        ScaledDegradation(record.name, scale, border)
        for record in DEGRADATIONS.values()
        for border in record.borders
        for scale in record.scales
    ]
    return {degradation.name: degradation for degradation in every}


def get_degradation(name: str) -> ScaledDegradation:
    """Return the degradation with a name such as "BIx4"; raise UserError if the name is unknown."""
    known = all_degradations()
    if name in known:
        return known[name]
    kind, _, scale = name.partition("x")
    if kind in DEGRADATIONS and scale.isdigit():
        return degradation_at(kind, int(scale))  # raises UserError, which lists the valid scales
    raise unknown("degradation", name, known)


def degradation_at(kind: str, scale: int, border: str = BORDERS[0]) -> ScaledDegradation:
    """Return the degradation of a kind, such as "BI", at a scale; raise UserError if it does not exist.

    `border` is one of `BORDERS`; BD ignores it.
    """
    if kind not in DEGRADATIONS:
        raise unknown("degradation", kind, DEGRADATIONS)
    record = DEGRADATIONS[kind]
    if scale not in record.scales:
        names = ", ".join(f"{kind}x{known}" for known in record.scales)
        raise UserError(f"unknown degradation '{kind}x{scale}'; {kind} exists only as {names}")
    return ScaledDegradation(kind, scale, border if border in record.borders else BORDERS[0])


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Crop an image of shape (h, w) or (h, w, c) at the bottom and right; its sides become multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


# Images of the same convention may differ in this share of their pixel values, because programs round halves
# differently. BasicSR's imresize is the closest to MATLAB's, and it differs in at least 11 % of the pixel values.
SAME_WAY = 0.02
EDGE = 4  # LR pixels within this distance of a sub-image's edge depend on HR pixels outside the sub-image
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


# The conventions that `identify` tries, as functions (gt, scale) -> lq: our degradations, then those of other programs.
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
TURNED = "shows the GT image turned or mirrored; make LR again by a program that applies the EXIF orientation"
_THUMB, _BOX = 24, Image.Resampling.BOX  # side in pixels and filter of the thumbnails that `is_turned` compares
_CHEAP = tuple(name for name, make in CONVENTIONS.items() if make is not _basicsr)  # need no torch


@dataclass(frozen=True)
class Verdict:
    """The result of `identify`. It tells by which convention (downscaling method) a set of LR images was made."""

    name: str  # a key of `CONVENTIONS`, or `UNKNOWN`
    edge: int  # width in LR pixels of the border that was not compared; 0 for complete images
    shares: dict[str, float]  # convention -> share (0..1) of the pixel values that differ from its output

    def fits(self, wanted: ScaledDegradation) -> bool:
        """Return True if the LR images were made by the degradation `wanted`.

        If `identify` did not compare the edges, the border of `wanted` (the way to extend images) is ignored.
        """
        exact = DEGRADATIONS[wanted.kind].convention(wanted.border)
        return self.name == exact or (self.edge > 0 and self.name.split()[0] == wanted.kind)

    def compare(self, gt: np.ndarray, lq: np.ndarray, scale: int) -> tuple[int, int]:
        """Compare `lq` with the LR image that the detected convention (`name`) makes from `gt`.

        Return (number of pixel values that differ, number of compared values), or (0, 0) if `name` is `UNKNOWN`.
        Images are uint8, (h, w) or (h, w, c).
        """
        return (0, 0) if self.name == UNKNOWN else _differing(gt, lq, scale, self.name, self.edge)

    def __str__(self) -> str:
        if self.name == UNKNOWN:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items())
            return f"an unknown method (share of pixel values that differ, for each known method: {shares})"
        if not self.edge:
            return self.name
        kind = self.name.split()[0]
        return f"{kind if kind in DEGRADATIONS else self.name} (edges not compared)"


def _differing(gt: np.ndarray, lq: np.ndarray, scale: int, convention: str, edge: int) -> tuple[int, int]:
    made = CONVENTIONS[convention](gt, scale)
    inside = slice(edge, -edge or None)
    unlike = made[inside, inside] != lq[inside, inside]
    return int(unlike.sum()), unlike.size


def identify(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int) -> Verdict:
    """Find out by which convention (method of shrinking images) most of the LR images were made.

    Each pair is an HR image and its LR image; both are uint8, (h, w) or (h, w, c).
    """
    shares: dict[str, float] = {}
    for names in (_CHEAP, tuple(CONVENTIONS)):
        whole, inside = (_best(pairs, scale, names, edge) for edge in (0, EDGE))
        # Sub-images differ only at their edges, so their share of differing pixel values falls a lot without the edges.
        # For complete images, the edges make almost no difference.
        verdict = inside if inside.shares[inside.name] < whole.shares[whole.name] / 4 else whole
        if verdict.shares[verdict.name] <= SAME_WAY:
            return verdict
        shares = whole.shares
    return Verdict(UNKNOWN, 0, shares)


def _best(pairs: list[tuple[np.ndarray, np.ndarray]], scale: int, names: tuple[str, ...], edge: int) -> Verdict:
    shares = {}
    for name in names:
        counts = [_differing(gt, lq, scale, name, edge) for gt, lq in pairs]
        known = [unlike / compared for unlike, compared in counts if compared]
        shares[name] = float(np.median(known)) if known else 1.0
        if shares[name] == 0:
            break
    return Verdict(min(shares, key=shares.__getitem__), edge, shares)


def is_turned(gt: np.ndarray, lq: np.ndarray) -> bool:
    """Return True if an LR image shows its HR image turned or mirrored. Images are uint8, (h, w) or (h, w, 3).

    This happens if the LR image was made by a program that ignores the EXIF orientation of the HR file.
    """
    small = [np.asarray(Image.fromarray(one).convert("L").resize((_THUMB, _THUMB), _BOX), float) for one in (gt, lq)]
    errors = [float(np.mean((upright(small[0], orientation) - small[1]) ** 2)) for orientation in range(1, 9)]
    return errors[0] > 4 * min(errors) + 25  # a mean difference of 5 levels is no proof
