"""HAN's construction arguments, read off the shapes of its weights."""

import re
from typing import Any

from torch import Tensor

from han_arch.errors import UserError

# Nothing in the weights tells these; the released form is what the authors' weights have.
ASSUMED = {"res_scale": 1, "img_range": 255.0, "rgb_mean": None, "lam_form": "released"}


def arguments_from_shapes(tensors: dict[str, Tensor], source: str) -> dict[str, Any]:
    """Arguments of HAN for which these weights (under our names; HAN's or RCAN's) fit.

    What no shape tells (ASSUMED) is left out, but for `lam_form`, which the cosine form's temperature shows; so is an
    attention that is neither LAM, CSAM nor left out.

    Raises:
        UserError: the weights lack what is needed to tell.
    """
    channels = _shape(tensors, "conv_first.weight", source)
    num_feat, num_in_ch = channels[:2]
    squeezed = _shape(tensors, "body.0.residual_group.0.rcab.3.attention.1.weight", source)[0]
    arguments: dict[str, Any] = {
        "num_in_ch": num_in_ch,
        "num_out_ch": num_in_ch,
        "num_feat": num_feat,
        "num_group": _count(tensors, r"body\.(\d+)\..*", "groups", source),
        "num_block": _count(tensors, r"body\.\d+\.residual_group\.(\d+)\..*", "blocks", source),
        "squeeze_factor": num_feat // squeezed,
        "upscale": _upscale(tensors, num_feat, source),
    }
    if "conv_lam.weight" in tensors:
        group_csams = {key.split(".")[1] for key in tensors if key.startswith("group_csam.")}
        arguments |= {
            "fusion": "conv" if "conv_fuse.weight" in tensors else "sum",
            "num_csam": 1 + len(group_csams),
        }
        for slot, prefix, own_key, own_name in (
            ("layer_attention", "lam.", "lam.alpha", "LAM"),
            ("spatial_attention", "csam.", "csam.beta", "CSAM"),
        ):
            if own_key in tensors:
                arguments[slot] = own_name
            elif not any(key.startswith(prefix) for key in tensors):
                arguments[slot] = None
        if "lam.log_temperature" in tensors:
            arguments["lam_form"] = "cosine"
    return arguments


def _shape(tensors: dict[str, Tensor], key: str, source: str) -> tuple[int, ...]:
    if key not in tensors or tensors[key].dim() != 4 or 0 in tensors[key].shape:
        raise UserError(f"{source} has no {key} of 4 dimensions, none 0; wanted all weights of a HAN or RCAN")
    return tuple(tensors[key].shape)


def _count(tensors: dict[str, Tensor], pattern: str, what: str, source: str) -> int:
    numbers = {int(match[1]) for key in tensors if (match := re.fullmatch(pattern, key))}
    if numbers != set(range(len(numbers))):
        raise UserError(
            f"{source} has weights of {len(numbers)} {what}, one called {max(numbers)}; wanted 0, 1, 2, ..."
        )
    return len(numbers)


def _upscale(tensors: dict[str, Tensor], num_feat: int, source: str) -> int:
    stages = [key for key in tensors if re.fullmatch(r"upsample\.\d+\.weight", key)]
    factors = [_shape(tensors, key, source)[0] / num_feat for key in stages]
    if factors == [9]:
        return 3
    if factors and set(factors) == {4}:
        return int(2 ** len(factors))
    raise UserError(
        f"{source} has upsampling stages of {factors or 'no'} times num_feat channels; wanted [9], or 4 each"
    )
