"""The protocol of a measurement: everything that two numbers must share before they may be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from han_arch.data.degradation import DEGRADATIONS, get_degradation
from han_arch.errors import UserError

CHANNELS = ("Y", "RGB")
GT_CROPS = ("mod-scale", "GTmod12")
GREY_RULES = ("as_rgb", "direct")
LR_BORDERS = ("symmetric", "replicate", "as given", "not stated")
OPTION_KEYS = ("degradation", "channel", "crop_border", "crop_gt", "grey")


@dataclass(frozen=True)
class Protocol:
    """How a PSNR and an SSIM came about; the defaults are the papers' protocol.

    Attributes:
        degradation: kind of the degradation that made LR, "BI" or "BD".
        scale: HR side / LR side.
        crop_border: HR pixels that are cut from each side before measuring; None means `scale`.
        channel: "Y" of BT.601 (16..235, not rounded) or "RGB".
        crop_gt: HR is cut to multiples of the scale ("mod-scale") or of 12 ("GTmod12").
        grey: a grey HR file becomes three equal channels ("as_rgb"), or its grey values are compared ("direct").
        lr_border: what MATLAB's imresize saw outside HR, "symmetric" or "replicate"; "as given" for LR files of the
            user's, "not stated" for numbers from papers.

    Raises:
        UserError: a value outside these.
    """

    degradation: str
    scale: int
    crop_border: int | None = None
    channel: str = "Y"
    crop_gt: str = "mod-scale"
    grey: str = "as_rgb"
    lr_border: str = "symmetric"

    def __post_init__(self) -> None:
        named = {degradation.kind for degradation in DEGRADATIONS.values() if degradation.scale == self.scale}
        _one_of("degradation", self.degradation, sorted(named))
        _one_of("channel", self.channel, CHANNELS)
        _one_of("crop_gt", self.crop_gt, GT_CROPS)
        _one_of("grey", self.grey, GREY_RULES)
        _one_of("lr_border", self.lr_border, LR_BORDERS)
        if self.crop_border is None:
            object.__setattr__(self, "crop_border", self.scale)
        if type(self.crop_border) is not int or self.crop_border < 0:
            raise UserError(f"crop_border must be a whole number of pixels from 0; got {self.crop_border!r}")
        if 12 % self.scale and self.crop_gt == "GTmod12":
            raise UserError(f"crop_gt GTmod12 does not go with x{self.scale}, which does not divide 12")

    @property
    def gt_multiple(self) -> int:
        """HR sides are cut to multiples of this."""
        return 12 if self.crop_gt == "GTmod12" else self.scale

    @property
    def key(self) -> str:
        """What measured and published numbers are joined by: the name without the border convention of LR."""
        return (
            f"{self.degradation}x{self.scale}, GT {self.crop_gt}, {self.channel}, border {self.crop_border}, "
            f"grey {self.grey}, SR uint8"
        )

    @property
    def name(self) -> str:
        """The printed name, one line: equal for two numbers exactly when they may be compared."""
        return f"{self.key}, LR {self.lr_border}"

    def __str__(self) -> str:
        return self.name


def from_options(options: Mapping[str, Any], scale: int) -> Protocol:
    """The protocol of an option file's `protocol` mapping.

    Args:
        options: `degradation` (a name of `data.degradation`, such as BIx4 or BIx4_replicate; BI of the scale when
            missing), and `channel`, `crop_border`, `crop_gt`, `grey` of `Protocol`.
        scale: the file's scale.

    Raises:
        UserError: an unknown key or value, or a degradation of another scale.
    """
    for key in options:
        _one_of("a key of protocol", key, OPTION_KEYS)
    degradation = get_degradation(str(options.get("degradation", f"BIx{scale}")))
    if degradation.scale != scale:
        raise UserError(f"protocol:degradation is {degradation.name} and the scale is {scale}; they must agree")
    rest = {key: value for key, value in options.items() if key != "degradation"}
    return Protocol(degradation.kind, scale, lr_border=degradation.border, **rest)


def _one_of(what: str, value: Any, known: "tuple[str, ...] | list[str]") -> None:
    if value in known:
        return
    near = get_close_matches(str(value), known, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"{what} must be one of {', '.join(known) or 'none at this scale'}; got {value!r}{hint}")
