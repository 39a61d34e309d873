"""Detect which codebase wrote a checkpoint, and find the arguments of its network."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from han_arch.archs.han_arch import DIV2K_RGB_MEAN, HAN
from han_arch.errors import UserError
from han_arch.zoo.convert import from_authors
from han_arch.zoo.read import read_raw
from han_arch.zoo.state_dict import RawCheckpoint, of_one_network, short

OURS, AUTHORS, RCAN_AUTHORS, RCAN_BASICSR = (
    "HAN",
    "HAN in the authors' format",  # super-image writes the same format
    "RCAN in its authors' format",
    "RCAN in BasicSR's format",
)
HAN_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(HAN).parameters.items()
    if parameter.default is not parameter.empty
}
# Arguments that the shapes of the weights do not determine, with their values in the authors' release.
ASSUMED = {"res_scale": 1, "img_range": 255.0, "rgb_mean": None, "lam_form": "released"}
_FIRST_WEIGHTS = ("conv_first.weight", "head.0.weight")  # of this package and BasicSR; of the authors
_LARGEST = 10**9  # larger numbers in options are mistakes
_LONGEST = 100  # letters in the text of an option
_STAGES = 3  # largest number of upsampling convolutions


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of HAN or RCAN from a known codebase.

    Attributes:
        source: path of the checkpoint file.
        kind: the network and the codebase, as one of OURS, AUTHORS, RCAN_AUTHORS and RCAN_BASICSR.
        tensors: the weights; the keys are the names that this package uses.
        arguments: arguments of HAN that fit the weights.
        assumed: names of the arguments that the file does not contain; ASSUMED has their values.
        notes: log messages, for example about weights with changed values.
        weight_key: key of the weights in the file; None if the file is a bare state dict.
        keys: keys of all weights in the file, the preferred key first.
    """

    source: str
    kind: str
    tensors: dict[str, Tensor]
    arguments: dict[str, Any]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]
    weight_key: str | None = None
    keys: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Network, codebase and size, such as "HAN, 10 groups x 20 blocks x 64 features, x4"."""
        size = "{num_group} groups x {num_block} blocks x {num_feat} features, x{upscale}".format(**self.arguments)
        return f"{self.kind}, {size}"

    @property
    def is_rcan(self) -> bool:
        """Whether the checkpoint contains an RCAN, the network that HAN uses as its backbone."""
        return self.kind in (RCAN_AUTHORS, RCAN_BASICSR)


def read_checkpoint(
    path: str | Path, weight_key: str | None = None, *, required: bool = True, sha256: str | None = None
) -> Checkpoint:
    """Read a checkpoint from any known codebase. `read_raw` explains the arguments.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file has another hash, is damaged or not a checkpoint, lacks `weight_key`, would run code when it
            is loaded, has neither HAN nor RCAN, or has a weight that is not a plain tensor of finite numbers.
    """
    raw = read_raw(path, weight_key, required=required, sha256=sha256)
    checkpoint = replace(recognise(raw, str(path)), weight_key=raw.weight_key, keys=raw.keys)
    if weight_key is None and len(raw.keys) > 1:
        note = f"the file has the weights {', '.join(raw.keys)}; the weights {raw.weight_key} are used"
    elif weight_key is None or raw.weight_key is None or weight_key in raw.weight_key.split("."):
        return checkpoint
    else:
        note = f"the file does not contain the weights {weight_key}; the weights {raw.weight_key} are used instead"
    return replace(checkpoint, notes=(note, *checkpoint.notes))


def recognise(raw: RawCheckpoint, source: str) -> Checkpoint:
    """Detect the codebase and the network of a checkpoint. `source` is its path, for error messages.

    Raises:
        UserError: the weights have unknown keys, the network is neither HAN nor RCAN, or an option has a wrong type.
    """
    tensors = of_one_network(raw.tensors, _FIRST_WEIGHTS, source)
    odd = [short(key) for key, value in tensors.items() if not value.is_floating_point()]
    if odd:
        raise UserError(f"{source} has {len(odd)} weights that are not floating-point numbers, such as {odd[0]}")
    kind = _kind(tensors, raw.network_g, source)
    stated: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if kind in (AUTHORS, RCAN_AUTHORS):
        converted = from_authors(tensors, source)
        tensors, notes = converted.tensors, converted.notes
        stated = {"img_range": converted.img_range, "rgb_mean": converted.rgb_mean, "res_scale": 1}
        if kind == AUTHORS:
            stated["lam_form"] = "released"
    elif raw.network_g is not None and kind == OURS:
        stated = HAN_DEFAULTS | raw.network_g
        if (got := stated.pop("type", "HAN")) != "HAN":
            raise UserError(f"{source} has HAN's weights, so its network_g must have the type HAN; got {short(got)}")
    elif raw.network_g is not None:
        stated = {key: raw.network_g[key] for key in ("res_scale", "img_range", "rgb_mean") if key in raw.network_g}
    _check_types(stated, source)
    arguments = _arguments_from_shapes(tensors, source) | stated
    assumed = tuple(key for key in ASSUMED if key not in arguments)
    return Checkpoint(source, kind, tensors, arguments, assumed, notes)


def normalisation(network_g: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input format, rgb_mean and img_range of a network, which computes (input - rgb_mean) * img_range."""
    mean, channels = network_g.get("rgb_mean"), network_g.get("num_in_ch", 3)
    if mean is None:  # then HAN uses the mean colour of DIV2K
        mean = [sum(DIV2K_RGB_MEAN) / 3] if channels == 1 else DIV2K_RGB_MEAN
    return {
        "input": "grey, [0, 1]" if channels == 1 else "RGB, [0, 1]",
        "rgb_mean": list(mean),
        "img_range": network_g.get("img_range", 255.0),
    }


def _kind(tensors: dict[str, Tensor], network_g: dict[str, Any] | None, source: str) -> str:
    if "conv_first.weight" in tensors and "conv_lam.weight" in tensors:
        return OURS
    if "head.0.weight" in tensors and any(".conv_du." in key for key in tensors):
        return AUTHORS if "last_conv.weight" in tensors else RCAN_AUTHORS
    if "conv_first.weight" in tensors and any(".rcab." in key for key in tensors):
        return RCAN_BASICSR
    what = f"of {short(network_g['type'])}" if network_g and "type" in network_g else "of another network"
    first = ", ".join(map(short, list(tensors)[:3]))
    raise UserError(
        f"{source} is a checkpoint {what} ({len(tensors)} weights, such as {first}); pass a "
        "checkpoint of HAN (from han_arch, its authors or super-image) or RCAN (from its authors or BasicSR)"
    )


def _check_types(arguments: Mapping[str, Any], source: str) -> None:
    """Check that the options in a file are HAN's and have the types of HAN's signature, so that HAN can be built."""
    for name, value in arguments.items():
        if not isinstance(name, str) or name not in _TYPES:
            raise UserError(f"HAN cannot be built with the options of {source}: {short(name)} is not an option of HAN")
        wanted, accepts = _TYPES[name]
        if not accepts(value):
            shown = f" {short(str(value))}" if isinstance(value, (str, float)) else ""
            raise UserError(
                f"HAN cannot be built with the options of {source}: {name} must be {wanted}; got a "
                f"{type(value).__name__}{shown}"
            )


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < _LARGEST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST  # false for nan and inf


def _is_mean(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(map(_is_number, value)))


def _is_name(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST


_KINDS_OF_TYPES = {
    int: ("a whole number", _is_whole),
    float: ("a finite number", _is_number),
    Sequence[float] | None: ("a list of finite numbers or null", _is_mean),
    str | None: (f"text of at most {_LONGEST} letters or null", _is_name),
    str: (f"text of at most {_LONGEST} letters", _is_text),
}
_TYPES = {name: _KINDS_OF_TYPES[parameter.annotation] for name, parameter in inspect.signature(HAN).parameters.items()}


def _arguments_from_shapes(tensors: dict[str, Tensor], source: str) -> dict[str, Any]:
    """Infer HAN's arguments from the weights, except custom attentions and the arguments in ASSUMED.

    Only the value "cosine" of lam_form can be inferred.
    """
    num_feat, num_in_ch = _shape(tensors, "conv_first.weight", source)[:2]
    squeezed = _shape(tensors, "body.0.residual_group.0.rcab.3.attention.1.weight", source)[0]
    arguments: dict[str, Any] = {
        "num_in_ch": num_in_ch,
        "num_out_ch": num_in_ch,
        "num_feat": num_feat,
        "num_group": _count(tensors, r"body\.([0-9]{1,9})\..*", "groups", source),
        "num_block": _count(tensors, r"body\.[0-9]+\.residual_group\.([0-9]{1,9})\..*", "blocks", source),
        "squeeze_factor": num_feat // squeezed,
        "upscale": _upscale(tensors, num_feat, source),
    }
    if "conv_lam.weight" in tensors:
        arguments["fusion"] = "conv" if "conv_fuse.weight" in tensors else "sum"
        arguments["num_csam"] = 1 + len({key.split(".")[1] for key in tensors if key.startswith("group_csam.")})
        for slot, prefix, own_key, own_name in (
            ("layer_attention", "lam.", "lam.alpha", "LAM"),
            ("spatial_attention", "csam.", "csam.beta", "CSAM"),
        ):
            if own_key in tensors:
                arguments[slot] = own_name
            elif not any(key.startswith(prefix) for key in tensors):
                arguments[slot] = None
        if "lam.log_temperature" in tensors:  # only this form of LAM has a temperature
            arguments["lam_form"] = "cosine"
    return arguments


def _shape(tensors: dict[str, Tensor], key: str, source: str) -> tuple[int, ...]:
    if key not in tensors or tensors[key].dim() != 4 or 0 in tensors[key].shape:
        raise UserError(
            f"{source}: {key} is missing, empty or not 4-dimensional; pass a checkpoint with all weights of HAN or RCAN"
        )
    return tuple(tensors[key].shape)


def _count(tensors: dict[str, Tensor], pattern: str, what: str, source: str) -> int:
    numbers = {int(match[1]) for key in tensors if (match := re.fullmatch(pattern, key))}
    if numbers != set(range(len(numbers))):
        raise UserError(
            f"{source} has {len(numbers)} {what}; their indices must be 0 to {len(numbers) - 1}, but the largest index "
            f"is {max(numbers)}"
        )
    return len(numbers)


def _upscale(tensors: dict[str, Tensor], num_feat: int, source: str) -> int:
    stages = [key for key in tensors if re.fullmatch(r"upsample\.[0-9]+\.weight", key)]
    factors = [_shape(tensors, key, source)[0] / num_feat for key in stages[: _STAGES + 1]]
    if factors == [9]:
        return 3
    if factors and set(factors) == {4} and len(factors) <= _STAGES:
        return int(2 ** len(factors))
    raise UserError(
        f"{source}: the output channels of the upsampling convolutions, divided by num_feat, are {factors}; they "
        "must be [4] for x2, [9] for x3, [4, 4] for x4 or [4, 4, 4] for x8"
    )
