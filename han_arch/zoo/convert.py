"""Convert checkpoints of HAN's and RCAN's authors to the weight names of this package.

The library super-image uses the authors' names. This package uses BasicSR's names. `_RULES` maps the authors' names to
BasicSR's names.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from han_arch.archs.han_arch import DIV2K_RGB_MEAN
from han_arch.errors import UserError
from han_arch.zoo.state_dict import short

_BLOCK = r"body\.(\d+)\.body\.(\d+)\.body"  # the number of the group, and the number of the block in the group
# Pattern for the authors' key, and this package's key. A key matches at most one pattern.
_RULES = [
    (r"head\.0\.(weight|bias)", r"conv_first.\1"),
    (_BLOCK + r"\.([02])\.(weight|bias)", r"body.\1.residual_group.\2.rcab.\3.\4"),
    (_BLOCK + r"\.3\.conv_du\.0\.(weight|bias)", r"body.\1.residual_group.\2.rcab.3.attention.1.\3"),
    (_BLOCK + r"\.3\.conv_du\.2\.(weight|bias)", r"body.\1.residual_group.\2.rcab.3.attention.3.\3"),
    (r"body\.(\d+)\.body\.(\d+)\.(weight|bias)", r"body.\1.conv.\3"),
    (r"body\.(\d+)\.(weight|bias)", r"conv_after_body.\2"),
    (r"la\.gamma", r"lam.alpha"),
    (r"csa\.gamma", r"csam.beta"),
    (r"csa\.conv\.(weight|bias)", r"csam.\1"),
    (r"last_conv\.(weight|bias)", r"conv_lam.\1"),
    (r"last\.(weight|bias)", r"conv_fuse.\1"),
    (r"tail\.0\.(\d+)\.(weight|bias)", r"upsample.\1.\2"),
    (r"tail\.1\.(weight|bias)", r"conv_last.\1"),
]
_MEAN_SHIFT_KEYS = ("sub_mean.weight", "sub_mean.bias", "add_mean.weight", "add_mean.bias")
_SHIFT_TOLERANCE = 1e-3  # smaller differences from the default mean shift, on the scale 0..img_range, are rounding
_IMG_RANGES = (255.0, 1.0)


@dataclass(frozen=True)
class Converted:
    """Weights under the names that this package uses, and the options for the input normalisation.

    Attributes:
        img_range: option `img_range`, 255 or 1.
        rgb_mean: option `rgb_mean`, in [0, 1]; None for the default mean.
        notes: log messages about weights with changed values.
    """

    tensors: dict[str, Tensor]
    img_range: float
    rgb_mean: tuple[float, ...] | None
    notes: tuple[str, ...] = ()


def from_authors(tensors: dict[str, Tensor], source: str) -> Converted:
    """Convert a state dict in the format of HAN's authors, RCAN's authors or super-image. `source` is the file's path.

    The authors' layer `sub_mean` computes S x + s. This equals S (x - mean) with mean = -S^-1 s. If training changed
    `sub_mean` or `add_mean`, the function multiplies conv_first by S, returns the mean as `rgb_mean`, and merges
    `add_mean` into conv_last. The network's output does not change, not even at the borders.

    Raises:
        UserError: a key is unknown or missing, two keys get the same name, a shape is wrong, or `sub_mean` is singular.
    """
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in tensors.items():
        if key in _MEAN_SHIFT_KEYS:
            continue
        matches = ((re.fullmatch(pattern, key), replacement) for pattern, replacement in _RULES)
        name = next((match.expand(replacement) for match, replacement in matches if match), None)
        if name is None:
            unknown.append(key)
        elif name in renamed:
            raise UserError(
                f"{source} has two keys for the weight {name}; remove one of them, for example {short(key)}"
            )
        else:
            renamed[name] = value
    if unknown:
        raise UserError(
            f"{source} has {len(unknown)} keys that HAN does not have: {', '.join(map(short, unknown[:4]))}"
        )
    _check_numbers(renamed, tensors, source)
    if (weight := renamed.get("csam.weight")) is not None:
        if weight.numel() != 27:
            raise UserError(f"{source}: csa.conv.weight must have the shape (1, 1, 3, 3, 3); got {tuple(weight.shape)}")
        renamed["csam.weight"] = weight.reshape(3, 3, 3)
    shift = [key for key in _MEAN_SHIFT_KEYS if key in tensors]
    if not shift:
        return Converted(renamed, 255.0, None)
    if len(shift) < 4 or not {"conv_first.weight", "conv_last.weight", "conv_last.bias"} <= renamed.keys():
        raise UserError(
            f"{source} contains {', '.join(shift)}, so it has a mean shift. A mean shift needs all four of "
            f"{', '.join(_MEAN_SHIFT_KEYS)}, and the weights of head.0 and tail.1"
        )
    return _fold_mean_shift(tensors, renamed, source)


def _check_numbers(renamed: dict[str, Tensor], tensors: dict[str, Tensor], source: str) -> None:
    """Check that each group has a convolution after its blocks, and that a convolution follows the last group."""
    blocks: dict[str, set[str]] = {}
    for key in renamed:
        if match := re.match(r"body\.(\d+)\.residual_group\.(\d+)\.", key):
            blocks.setdefault(match[1], set()).add(match[2])
    wanted = {f"body.{len(blocks)}"} | {f"body.{group}.body.{len(numbers)}" for group, numbers in blocks.items()}
    got = {key.rsplit(".", 1)[0] for key in tensors if re.fullmatch(r"body\.\d+\.(body\.\d+\.)?(weight|bias)", key)}
    if got != wanted:
        lacking, odd = sorted(wanted - got) or ["nothing"], sorted(got - wanted) or ["nothing"]
        raise UserError(
            f"{source} has {len(blocks)} groups. A convolution must follow the blocks of each group, and "
            f"one more must follow the last group. Missing: {', '.join(lacking[:3])}. Unexpected: {', '.join(odd[:3])}"
        )


def _fold_mean_shift(tensors: dict[str, Tensor], renamed: dict[str, Tensor], source: str) -> Converted:
    channels = renamed["conv_first.weight"].shape[1] if renamed["conv_first.weight"].dim() == 4 else 0
    for key in _MEAN_SHIFT_KEYS:
        shape = (channels, channels, 1, 1) if key.endswith("weight") else (channels,)
        if tensors[key].shape != shape:
            raise UserError(
                f"{source}: {key} must have the shape {shape}, because conv_first has {channels} input channels; "
                f"got {tuple(tensors[key].shape)}"
            )
        if not tensors[key].isfinite().all():
            raise UserError(f"{source}: {key} contains nan or inf; all values must be finite")
    last = renamed["conv_last.weight"].shape
    if len(last) != 4 or last[0] != channels or renamed["conv_last.bias"].shape != (channels,):
        raise UserError(
            f"{source}: conv_last must have {channels} output channels, because conv_first has as many input channels"
        )
    # float64 keeps rounding errors small.
    scale_in, shift_in, scale_out, shift_out = (tensors[key].double() for key in _MEAN_SHIFT_KEYS)
    scale_in, scale_out = scale_in.flatten(1), scale_out.flatten(1)  # (channels, channels)
    identity = torch.eye(len(shift_in), dtype=torch.float64)
    expected = torch.tensor(DIV2K_RGB_MEAN, dtype=torch.float64)
    if len(expected) != len(shift_in):
        raise UserError(f"{source}: the mean shift must have {len(expected)} channels; got {len(shift_in)}")
    if torch.linalg.matrix_rank(scale_in) < len(identity):
        raise UserError(f"{source}: sub_mean.weight is a singular matrix, but it must be invertible")
    img_range = min(_IMG_RANGES, key=lambda value: float((shift_in + value * expected).abs().max()))
    constants = [
        (scale_in, identity, img_range),  # scale_in multiplies input values between 0 and img_range
        (shift_in, -img_range * expected, 1.0),
        (scale_out, identity, img_range),
        (shift_out, img_range * expected, 1.0),
    ]
    if all(float((got - wanted).abs().max()) * factor <= _SHIFT_TOLERANCE for got, wanted, factor in constants):
        return Converted(renamed, img_range, None)
    mean = torch.linalg.solve(scale_in, -shift_in) / img_range
    conv_first, conv_last = renamed["conv_first.weight"], renamed["conv_last.weight"]
    bias = scale_out @ renamed["conv_last.bias"].double() + shift_out - img_range * mean
    folded = {
        "conv_first.weight": torch.einsum("omyx,mi->oiyx", conv_first.double(), scale_in).to(conv_first.dtype),
        "conv_last.weight": torch.einsum("om,miyx->oiyx", scale_out, conv_last.double()).to(conv_last.dtype),
        "conv_last.bias": bias.to(conv_last.dtype),
    }
    note = (
        f"the mean shift in the file differs from the default rgb_mean {DIV2K_RGB_MEAN}; conv_first, conv_last and "
        "rgb_mean were changed so that they include the mean shift of the file"
    )
    return Converted({**renamed, **folded}, img_range, tuple(mean.tolist()), (note,))
