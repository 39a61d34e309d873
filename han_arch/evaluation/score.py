"""PSNR and SSIM of images by a protocol: BasicSR's metrics, and what has to be done to HR and LR before them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from han_arch import compat
from han_arch.data.degradation import DEGRADATIONS, Degradation
from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol
from han_arch.images.strict import read_image

SSIM_WINDOW = 11  # pixels; a smaller image has no SSIM


@dataclass(frozen=True)
class Score:
    """How close one image is to HR: PSNR in dB, SSIM, and the protocol without which they mean nothing."""

    psnr: float
    ssim: float
    protocol: Protocol

    @property
    def finite(self) -> bool:
        """Whether both are numbers: equal images have PSNR inf, images smaller than the window SSIM nan."""
        return math.isfinite(self.psnr) and math.isfinite(self.ssim)

    @property
    def cell(self) -> str:
        """Both numbers, for a table whose heading names the protocol."""
        return f"{self.psnr:.2f} dB / {self.ssim:.4f}"

    def __str__(self) -> str:
        return f"{self.cell} ({self.protocol})"


@dataclass(frozen=True)
class SetScore:
    """The mean over the images of a set.

    Attributes:
        mean: mean PSNR and SSIM of the images whose metrics are finite; nan when there is none.
        images: how many went into the mean.
        left_out: image name -> its score, those with nan or inf.
    """

    mean: Score
    images: int
    left_out: Mapping[str, Score]

    @property
    def note(self) -> str:
        """What the mean leaves out, "" when nothing."""
        return "; ".join(f"{name}: {score.cell}, not averaged" for name, score in self.left_out.items())


def crop_gt(gt: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Cut HR, (h, w) or (h, w, 3), at the bottom and right to the protocol's multiples."""
    height, width = (side - side % protocol.gt_multiple for side in gt.shape[:2])
    return gt[:height, :width]


def load_gt(path: Path, protocol: Protocol) -> np.ndarray:
    """Read an HR file and cut it as the protocol says.

    Returns:
        uint8, (h, w, 3) RGB; (h, w) for a grey file when the protocol's grey rule is "direct".

    Raises:
        UserError: no 8-bit grey or RGB image, or nothing is left of it.
    """
    gt = crop_gt(load_rgb_or_grey(path), protocol)
    if gt.size == 0:
        raise UserError(f"{path} is smaller than {protocol.gt_multiple} pixels; nothing is left of it")
    return as_rgb(gt) if protocol.grey == "as_rgb" else gt


def load_rgb_or_grey(path: Path) -> np.ndarray:
    """Read an image file: uint8, (h, w) or (h, w, 3).

    Raises:
        UserError: it cannot be read as such.
    """
    try:
        image = read_image(path)
    except ValueError as error:
        raise UserError(str(error)) from error
    if image.ndim == 3 and image.shape[2] != 3:
        raise UserError(f"{path} has an alpha channel; flatten it to RGB")
    return image


def as_rgb(image: np.ndarray) -> np.ndarray:
    """(h, w) as three equal channels; (h, w, 3) as it is."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def degradation_of(protocol: Protocol) -> Degradation:
    """The degradation that makes LR from HR, and whose `upscale` is the tables' "Bicubic"."""
    plain = f"{protocol.degradation}x{protocol.scale}"
    border = "_replicate" if protocol.degradation == "BI" and protocol.lr_border == "replicate" else ""
    return DEGRADATIONS[plain + border]


def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> Score:
    """Score an image against HR.

    Args:
        sr: uint8, (h, w, 3) RGB, or (h, w) grey.
        gt: the same shape; cropped by `crop_gt` already.
        protocol: grey images are compared directly whatever its grey rule says; `load_gt` follows that.

    Raises:
        ValueError: other shapes or types.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"the image must be as large as HR, {gt.shape}; got {sr.shape}")
    if sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"both images must be uint8, 0..255; got {sr.dtype} and {gt.dtype}")
    compat.require_basicsr()
    from basicsr.metrics import calculate_psnr, calculate_ssim

    border = protocol.crop_border or 0
    on_y = protocol.channel == "Y" and gt.ndim == 3
    if gt.ndim == 2:
        sr, gt = sr[..., None], gt[..., None]
    sr, gt = sr[..., ::-1], gt[..., ::-1]  # BasicSR's order is BGR
    side = min(gt.shape[:2]) - 2 * border
    # BasicSR warns and gives a meaningless number for images that the border or the window swallows.
    psnr = calculate_psnr(sr, gt, crop_border=border, test_y_channel=on_y) if side > 0 else math.nan
    ssim = calculate_ssim(sr, gt, crop_border=border, test_y_channel=on_y) if side >= SSIM_WINDOW else math.nan
    return Score(float(psnr), float(ssim), protocol)


def mean_score(scores: Mapping[str, Score]) -> SetScore:
    """The mean over a set's images (name -> score), nan and inf left out and named.

    Raises:
        ValueError: no score, or scores of several protocols.
    """
    protocols = {score.protocol for score in scores.values()}
    if len(protocols) != 1:
        raise ValueError(f"a mean needs scores of one protocol; got {sorted(map(str, protocols)) or 'no scores'}")
    good = [score for score in scores.values() if score.finite]
    psnr = float(np.mean([score.psnr for score in good])) if good else math.nan
    ssim = float(np.mean([score.ssim for score in good])) if good else math.nan
    left_out = {name: score for name, score in scores.items() if not score.finite}
    return SetScore(Score(psnr, ssim, protocols.pop()), len(good), left_out)
