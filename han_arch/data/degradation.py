"""The degradations that make LR images in the papers, as named objects: BIx2, BIx3, BIx4, BIx8 and BDx3."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import cv2
import numpy as np

from han_arch.data.imresize import imresize
from han_arch.errors import UserError

BD_KERNEL_SIZE, BD_SIGMA, BD_PHASE = 7, 1.6, 1


@dataclass(frozen=True)
class Degradation:
    """How LR is made from HR.

    Attributes:
        kind: "BI" (MATLAB's bicubic) or "BD" (blur, then decimation).
        scale: HR side / LR side.
        border: what `imresize` sees outside the image; BD always repeats the edge pixel in its blur.
    """

    kind: str
    scale: int
    border: str = "symmetric"

    @property
    def name(self) -> str:
        """The name in options, commands and tables: "BIx4", or "BIx4_replicate" with the border of RCAN's files."""
        return f"{self.kind}x{self.scale}" + ("_replicate" if self.border == "replicate" else "")

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """Make the LR image of a mod-cropped HR image.

        Args:
            gt: uint8, (h, w) or (h, w, c), both sides multiples of `scale`.

        Returns:
            uint8, (h / scale, w / scale) and the channels of `gt`.

        Raises:
            ValueError: a side is not a multiple of the scale.
        """
        height, width = gt.shape[:2]
        if height % self.scale or width % self.scale:
            raise ValueError(f"{self.name} needs sides that are multiples of {self.scale}; got {height}x{width}")
        return imresize(gt, 1 / self.scale, self.border) if self.kind == "BI" else blur_down(gt, self.scale)

    def upscale(self, lq: np.ndarray) -> np.ndarray:
        """Bring an LR image (uint8, (h, w) or (h, w, c)) back to HR size: the tables' "Bicubic" row."""
        return imresize(lq, self.scale, self.border)


def blur_down(gt: np.ndarray, scale: int) -> np.ndarray:
    """The BD degradation: blur, round to 8 bits, keep every `scale`-th pixel from the second on.

    Args:
        gt: uint8, (h, w) or (h, w, c).
        scale: step between the pixels that are kept; the papers use 3 only.

    Returns:
        uint8, pixels [1::scale, 1::scale] of the blurred image.

    Source: a 7x7 Gaussian of sigma 1.6, normalised, edge pixels repeated; kernel, border and phase are those whose
    bicubic upscaling gives the published BD rows.
    """
    kernel = cv2.getGaussianKernel(BD_KERNEL_SIZE, BD_SIGMA, cv2.CV_64F)
    blurred = cv2.sepFilter2D(gt.astype(np.float64), cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    kept = blurred.reshape(gt.shape)[BD_PHASE::scale, BD_PHASE::scale]
    return np.floor(kept + 0.5).clip(0, 255).astype(np.uint8)


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Cut the image (h, w) or (h, w, c) at the bottom and right to sides that are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


DEGRADATIONS = {
    degradation.name: degradation
    for degradation in (
        *(Degradation("BI", scale, border) for border in ("symmetric", "replicate") for scale in (2, 3, 4, 8)),
        Degradation("BD", 3),
    )
}


def get_degradation(name: str) -> Degradation:
    """Look a degradation up by name.

    Raises:
        UserError: no such name; says the nearest one and all there are.
    """
    if name in DEGRADATIONS:
        return DEGRADATIONS[name]
    near = get_close_matches(name, DEGRADATIONS, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"no degradation {name!r}{hint}; there are {', '.join(DEGRADATIONS)}")


def degradations(kind: str, scales: Sequence[int], border: str = "symmetric") -> list[Degradation]:
    """The named degradations of one kind at several scales; UserError for a scale that the kind does not have."""
    suffix = "_replicate" if border == "replicate" and kind == "BI" else ""
    return [get_degradation(f"{kind}x{scale}{suffix}") for scale in scales]
