"""The protocol of a measurement. Scores can be compared only if their protocols are equal in all settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from han_arch.data.degradation import DEGRADATIONS, ScaledDegradation, degradation_at, get_degradation
from han_arch.errors import UserError, unknown

_KNOWN = {
    "channel": ("Y", "RGB"),
    "crop_gt": ("mod-scale", "GTmod12"),
    "grey": ("as_rgb", "direct"),
    "lr_border": ("symmetric", "replicate", "as given", "not stated"),
}
OPTION_KEYS = ("degradation", "channel", "crop_border", "crop_gt", "grey")


@dataclass(frozen=True)
class Protocol:
    """The settings for preparing images and measuring scores. The defaults are the settings of the papers.

    Attributes:
        degradation: name of the degradation that made LR from HR: "BI" (bicubic) or "BD" (blur and decimation).
        scale: HR side / LR side.
        crop_border: number of HR pixels that are cut from each side before measuring. None means `scale` pixels.
        channel: the measured channels: "Y" (luma of BT.601, 16..235, not rounded) or "RGB".
        crop_gt: how HR is cut. "mod-scale": the sides become multiples of the scale. "GTmod12": multiples of 12.
        grey: rule for grey HR files. "as_rgb": convert them to RGB. "direct": compare grey values.
        lr_border: how MATLAB's imresize extended HR at its borders: "symmetric" or "replicate". For LR files of the
            user, the value is "as given". For scores from papers, it is "not stated".

    Raises:
        UserError: an argument has a value that is not allowed.
    """

    degradation: str
    scale: int
    crop_border: int | None = None
    channel: str = "Y"
    crop_gt: str = "mod-scale"
    grey: str = "as_rgb"
    lr_border: str = "symmetric"

    def __post_init__(self) -> None:
        kinds = [record.name for record in DEGRADATIONS.values() if self.scale in record.scales]
        if self.degradation not in kinds:
            raise unknown(f"degradation at x{self.scale}", self.degradation, kinds)
        for key, known in _KNOWN.items():
            if getattr(self, key) not in known:
                raise unknown(key, getattr(self, key), known)
        if self.crop_border is None:
            object.__setattr__(self, "crop_border", self.scale)
        if type(self.crop_border) is not int or self.crop_border < 0:
            raise UserError(f"crop_border must be a whole number of pixels >= 0; got {self.crop_border!r}")
        if 12 % self.scale and self.crop_gt == "GTmod12":
            raise UserError(f"crop_gt: GTmod12 needs a scale that divides 12; got x{self.scale}")

    @property
    def gt_multiple(self) -> int:
        """A number of pixels: height and width of HR are cut to multiples of this number."""
        return 12 if self.crop_gt == "GTmod12" else self.scale

    @property
    def border(self) -> int:
        """The number of HR pixels that are cut from each side before measuring."""
        return self.crop_border or 0

    @property
    def lr_degradation(self) -> ScaledDegradation:
        """The degradation that makes LR from HR. Its method `upscale` makes the SR images of Bicubic."""
        return degradation_at(self.degradation, self.scale, self.lr_border)

    @property
    def key(self) -> str:
        """The key for finding published scores: the name without `lr_border`, because papers omit `lr_border`."""
        cuts = f"GT {self.crop_gt}, {self.channel}, border {self.crop_border}"
        return f"{self.degradation}x{self.scale}, {cuts}, grey {self.grey}, SR uint8"

    @property
    def name(self) -> str:
        """The protocol's name: all settings in one line. Scores can be compared if their protocols have equal names."""
        return f"{self.key}, LR {self.lr_border}"

    def __str__(self) -> str:
        return self.name

    def cut_gt(self, gt: np.ndarray) -> np.ndarray:
        """Cut the bottom and right of an HR image so that its sides are multiples of `gt_multiple`."""
        height, width = (side - side % self.gt_multiple for side in gt.shape[:2])
        return gt[:height, :width]

    def cut_border(self, image: np.ndarray) -> np.ndarray:
        """Cut `border` pixels from each side of an HR or SR image, (h, w) or (h, w, 3)."""
        return image[self.border : image.shape[0] - self.border, self.border : image.shape[1] - self.border]


def from_options(options: Any, scale: int) -> Protocol:
    """Make a protocol from the mapping `protocol` of an option file.

    The key `degradation` is a name such as BIx4 or BIx4_replicate (default: BI at this scale). The other keys are
    attributes of `Protocol`.

    Raises:
        UserError: `options` is not a mapping, a key or value is not allowed, or the degradation is not for `scale`.
    """
    if not isinstance(options, Mapping):
        raise UserError(f"protocol must be a mapping of options, such as {{channel: Y}}; got {options!r}")
    for key in options:
        if key not in OPTION_KEYS:
            raise unknown("option of protocol", key, OPTION_KEYS)
    degradation = get_degradation(str(options.get("degradation", f"BIx{scale}")))
    if degradation.scale != scale:
        raise UserError(
            f"protocol:degradation is {degradation.name}, but the scale is {scale}; use a degradation for x{scale}"
        )
    rest = {key: value for key, value in options.items() if key != "degradation"}
    return Protocol(degradation.kind, scale, lr_border=degradation.border, **rest)
