"""Networks from checkpoints: `load_model`, and what `path.pretrain_network_g` does with them.

Any form that recognition.py knows is loaded whole (`load_strict`) or in part (`warm_start`); RCAN's give the backbone.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.zoo import entry as entries
from han_arch.zoo import store
from han_arch.zoo.construction import ASSUMED
from han_arch.zoo.recognise import HAN_DEFAULTS, RCAN_AUTHORS, RCAN_BASICSR, Checkpoint, read_checkpoint
from han_arch.zoo.weight_file import normalisation

logger = logging.getLogger("han_arch")

_BACKBONE = ("conv_first.", "body.", "conv_after_body.")
_OF_SCALE = ("upsample.", "conv_last.")


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


def load_model(path: str | Path) -> HAN:
    """The network of a zoo entry or a checkpoint, in evaluation mode, on the CPU, in channels_last.

    Args:
        path: a name of `basicsr zoo list`, such as "han-s-x4": the file in the package is taken, or the one in the
            cache folder, or it is fetched, which is logged as a warning; always with the hash that the table has. Else
            a checkpoint in any form that recognition.py knows; `./NAME` is a file that is called like an entry.

    It maps (b, channels, h, w) in [0, 1] to (b, channels, scale*h, scale*w) in [0, 1], not clamped. Of `params` and
    `params_ema` the latter is taken. What the file does not tell is assumed to be as the authors released it, and
    logged.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, of another network, or does not fit the network that it describes; no such
            entry, or its file cannot be had.
    """
    path = find_file(path)
    checkpoint = read_checkpoint(path)
    if checkpoint.kind in (RCAN_AUTHORS, RCAN_BASICSR):
        raise UserError(
            f"{path} is a checkpoint of {checkpoint.summary}; wanted HAN's. It can start HAN's training: "
            "path:pretrain_network_g with strict_load_g: false"
        )
    net = build(checkpoint.arguments, str(path))
    load_strict(net, checkpoint)
    if checkpoint.assumed:
        assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
        logger.warning(
            "%s is %s; it does not tell and the released form is assumed: %s", path, checkpoint.summary, assumed
        )
    for note in checkpoint.notes:
        logger.info("%s: %s", path, note)
    return net.eval().to(memory_format=torch.channels_last)


def build(arguments: Mapping[str, Any], source: str) -> HAN:
    """HAN with a checkpoint's arguments.

    Raises:
        UserError: there is no such network; source is the file's name for the message.
    """
    try:
        return HAN(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source} describes no network that can be built: {error}") from error


def check_rcan(checkpoint: Checkpoint) -> None:
    """Compare RCAN's weights with all that RCAN of these arguments has, which is HAN without its attentions.

    Raises:
        UserError: some are missing, too many, or misshapen.
    """
    with torch.device("meta"):
        net = build(checkpoint.arguments, checkpoint.source)
    wanted = {key: value for key, value in net.state_dict().items() if key.startswith((*_BACKBONE, *_OF_SCALE))}
    differences = _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(f"{checkpoint.source} ({checkpoint.summary}) is no whole RCAN: {'; '.join(differences)}")


def find_file(path: str | Path) -> Path:
    """The file that `load_model` loads for a zoo name or a path; fetched when need be.

    Raises:
        UserError: neither an entry nor a file, or the entry's file cannot be had.
    """
    if isinstance(path, str) and entries.is_name(path):
        return store.obtain(entries.find(path), logger.warning)
    # A bare word without a file's ending is a name.
    if isinstance(path, str) and Path(path).name == path and not Path(path).suffix and not Path(path).is_file():
        entries.find(path)
    return Path(path)


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
    differences += _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) does not fit the network: {'; '.join(differences)}. To take "
            "what fits and start the rest fresh, set path:strict_load_g: false"
        )
    net.load_state_dict(checkpoint.tensors)


def warm_start(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> WarmStart:
    """Take over what a checkpoint of HAN or RCAN, of any scale, has in common with net; the rest stays as it is.

    The backbone must fit. HAN's attention and fusion weights are taken where name and shape agree; the upsampling and
    the last convolution belong to their scale, and are taken from the same scale only.

    Args:
        net: a HAN, changed in place.
        checkpoint: from `read_checkpoint`.
        network_g: the options net was built from; with another normalisation of the input, or another factor on the
            residuals, the backbone would compute something else.

    Raises:
        UserError: the backbones differ, or what goes into them.
    """
    if network_g is not None:
        differing = _differing_options(checkpoint, network_g, ("rgb_mean", "img_range", "res_scale"))
        if differing:
            raise UserError(
                f"{checkpoint.source} ({checkpoint.summary}) was trained with other values: {'; '.join(differing)}. "
                "Set network_g to the file's"
            )
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


def _differing_weights(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    differences = []
    for what, keys in (
        ("missing", sorted(wanted.keys() - tensors.keys())),
        ("not in the network", sorted(tensors.keys() - wanted.keys())),
        ("of another shape", _misshapen(tensors, wanted)),
    ):
        if keys:
            differences.append(f"{len(keys)} weights {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})")
    return differences


def _misshapen(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    return sorted(key for key, value in tensors.items() if key in wanted and value.shape != wanted[key].shape)


def _differing_options(
    checkpoint: Checkpoint, network_g: Mapping[str, Any], names: Iterable[str] | None = None
) -> list[str]:
    theirs, ours = checkpoint.arguments, HAN_DEFAULTS | dict(network_g)
    names = theirs if names is None else [name for name in names if name in theirs]
    differing = [name for name in names if _comparable(name, theirs) != _comparable(name, ours)]
    return [f"{name} is {theirs[name]} in the file, {ours.get(name)} in network_g" for name in differing]


def _comparable(name: str, arguments: Mapping[str, Any]) -> Any:
    """The value in a form that is equal for equal networks, however an option file wrote it."""
    value = arguments.get(name)
    if name == "rgb_mean":
        return [round(float(number), 6) for number in normalisation(arguments)["rgb_mean"]]
    if name == "squeeze_factor" and value:  # of several factors with one result, the shapes tell one
        return arguments["num_feat"] // value
    return value


def _parts(keys: list[str]) -> str:
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
