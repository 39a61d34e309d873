"""Networks from checkpoints: `load_model`, and what `path.pretrain_network_g` accepts.

A checkpoint is recognised by its keys: HAN's own form, the HAN authors' (super-image's too), and RCAN's in the RCAN
authors' and in BasicSR's form. RCAN's give the backbone only.
"""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from han_arch.archs.han_arch import DIV2K_RGB_MEAN, HAN
from han_arch.errors import UserError
from han_arch.zoo.checkpoint import read_raw
from han_arch.zoo.construction import ASSUMED, arguments_from_shapes
from han_arch.zoo.convert import from_authors

logger = logging.getLogger("han_arch")

OURS, AUTHORS, RCAN_AUTHORS, RCAN_BASICSR = (
    "HAN",
    "HAN in the authors' form",
    "RCAN in its authors' form",
    "RCAN in BasicSR's form",
)
_BACKBONE = ("conv_first.", "body.", "conv_after_body.")
_OF_SCALE = ("upsample.", "conv_last.")
_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(HAN).parameters.items()
    if parameter.default is not parameter.empty
}


@dataclass(frozen=True)
class Checkpoint:
    """A recognised checkpoint.

    `tensors` are under our names, `arguments` those of HAN for which they fit, `assumed` the names of arguments that
    the file does not tell, `notes` what was changed on the way.
    """

    source: str
    kind: str
    tensors: dict[str, Tensor]
    arguments: dict[str, Any]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What the file is, in words."""
        size = "{num_group} groups x {num_block} blocks x {num_feat} features, x{upscale}".format(**self.arguments)
        return f"{self.kind}, {size}"


@dataclass(frozen=True)
class WarmStart:
    """Names of the network's weights that were taken and that start fresh, and the checkpoint's that were not used."""

    taken: list[str]
    fresh: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """One line for the log, by part of the network."""
        return f"taken: {_parts(self.taken)}; starts fresh: {_parts(self.fresh)}; not used: {_parts(self.unused)}"


def read_checkpoint(path: str | Path, weight_key: str | None = None) -> Checkpoint:
    """Read a checkpoint of any of the forms above; see `read_raw` for weight_key and for what may go wrong.

    Raises:
        FileNotFoundError: no such file.
        UserError: damaged, no checkpoint, of another network, or with keys that belong to none.
    """
    raw = read_raw(path, weight_key)
    source, tensors = str(path), raw.tensors
    notes: tuple[str, ...] = ()
    if weight_key is not None and raw.weight_key not in (None, weight_key):
        notes = (f"it has no {weight_key}; {raw.weight_key} is taken",)
    kind = _recognise(tensors, raw.network_g, source)
    told: dict[str, Any] = {}
    if kind in (AUTHORS, RCAN_AUTHORS):
        converted = from_authors(tensors, DIV2K_RGB_MEAN, source)
        tensors, notes = converted.tensors, notes + converted.notes
        told = {"img_range": converted.img_range, "rgb_mean": converted.rgb_mean, "res_scale": 1}
        if kind == AUTHORS:
            told["lam_form"] = "released"
    elif raw.network_g is not None and kind == OURS:
        told = _DEFAULTS | {key: value for key, value in raw.network_g.items() if key != "type"}
    arguments = arguments_from_shapes(tensors, source) | told
    assumed = tuple(key for key in ASSUMED if key not in arguments)
    return Checkpoint(source, kind, tensors, arguments, assumed, notes)


def load_model(path: str | Path) -> HAN:
    """The network of a checkpoint, in evaluation mode, on the CPU, in channels_last.

    It maps (b, channels, h, w) in [0, 1] to (b, channels, scale*h, scale*w) in [0, 1], not clamped. Of `params` and
    `params_ema` the latter is taken. What the file does not tell is assumed to be as the authors released it, and
    logged.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, of another network, or does not fit the network that it describes.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.kind in (RCAN_AUTHORS, RCAN_BASICSR):
        raise UserError(
            f"{path} is a checkpoint of {checkpoint.summary}; wanted HAN's. It can start HAN's training: "
            "path:pretrain_network_g with strict_load_g: false"
        )
    try:
        net = HAN(**checkpoint.arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path} describes no network that can be built: {error}") from error
    load_strict(net, checkpoint)
    if checkpoint.assumed:
        assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
        logger.info(
            "%s is %s; it does not tell and the released form is assumed: %s", path, checkpoint.summary, assumed
        )
    for note in checkpoint.notes:
        logger.info("%s: %s", path, note)
    return net.eval().to(memory_format=torch.channels_last)


def load_strict(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> None:
    """Load all of a checkpoint into a network that it fits exactly.

    Args:
        net: changed in place, or not at all when it does not fit.
        checkpoint: from `read_checkpoint`.
        network_g: the options net was built from; where the checkpoint tells one otherwise, it does not fit.

    Raises:
        UserError: it does not fit; says what the file is and what differs.
    """
    wanted = net.state_dict()
    differences = [] if network_g is None else _differing_options(checkpoint, network_g)
    for what, keys in (
        ("missing", sorted(wanted.keys() - checkpoint.tensors.keys())),
        ("not in the network", sorted(checkpoint.tensors.keys() - wanted.keys())),
        ("of another shape", _misshapen(checkpoint.tensors, wanted)),
    ):
        if keys:
            differences.append(f"{len(keys)} weights {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    if differences:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) does not fit the network: {'; '.join(differences)}. To take "
            "what fits and start the rest fresh, set path:strict_load_g: false"
        )
    net.load_state_dict(checkpoint.tensors)


def warm_start(net: nn.Module, checkpoint: Checkpoint) -> WarmStart:
    """Take over what a checkpoint of HAN or RCAN, of any scale, has in common with net; the rest stays as it is.

    The backbone must fit. HAN's attention and fusion weights are taken where name and shape agree; the upsampling and
    the last convolution belong to their scale, and are taken from the same scale only.

    Args:
        net: a HAN, changed in place.
        checkpoint: from `read_checkpoint`.

    Raises:
        UserError: the backbones differ.
    """
    wanted = net.state_dict()
    own_scale = getattr(net, "upscale", None)
    candidates = {
        key: value
        for key, value in checkpoint.tensors.items()
        if not (key.startswith(_OF_SCALE) and checkpoint.arguments["upscale"] != own_scale)
    }
    misshapen = _misshapen(candidates, wanted)
    taken = {key: value for key, value in candidates.items() if key in wanted and key not in misshapen}
    lacking = [key for key in wanted if key.startswith(_BACKBONE) and key not in taken]
    excess = [key for key in checkpoint.tensors if key.startswith(_BACKBONE) and key not in taken]
    if lacking or excess:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) has another backbone than the network: "
            f"{len(lacking)} weights lacking, {len(excess)} in excess, such as {(lacking or excess)[0]}"
        )
    net.load_state_dict(taken, strict=False)
    return WarmStart(
        taken=list(taken),
        fresh=[key for key in wanted if key not in taken],
        unused=[key for key in checkpoint.tensors if key not in taken],
    )


def _recognise(tensors: dict[str, Tensor], network_g: dict[str, Any] | None, source: str) -> str:
    if "conv_first.weight" in tensors and "conv_lam.weight" in tensors:
        return OURS
    if "head.0.weight" in tensors and any(".conv_du." in key for key in tensors):
        return AUTHORS if "last_conv.weight" in tensors else RCAN_AUTHORS
    if "conv_first.weight" in tensors and any(".rcab." in key for key in tensors):
        return RCAN_BASICSR
    what = f"of {network_g['type']}" if network_g and "type" in network_g else "of another network"
    raise UserError(
        f"{source} is a checkpoint {what}: {len(tensors)} weights, such as {', '.join(list(tensors)[:3])}; wanted "
        "HAN's (ours, the authors', super-image's) or RCAN's (its authors', BasicSR's)"
    )


def _misshapen(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return sorted(key for key, value in tensors.items() if key in wanted and value.shape != wanted[key].shape)


def _differing_options(checkpoint: Checkpoint, network_g: Mapping[str, Any]) -> list[str]:
    theirs, ours = checkpoint.arguments, _DEFAULTS | dict(network_g)
    differing = [name for name in theirs if _comparable(name, theirs[name]) != _comparable(name, ours.get(name))]
    return [f"{name} is {theirs[name]} in the file, {ours.get(name)} in network_g" for name in differing]


def _comparable(name: str, value: Any) -> Any:
    """The value in a form that is equal for equal networks, however an option file wrote it."""
    if name == "rgb_mean":
        return [round(float(number), 6) for number in (DIV2K_RGB_MEAN if value is None else value)]
    return value


def _parts(keys: list[str]) -> str:
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
