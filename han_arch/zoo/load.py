"""Build networks from checkpoints (`load_model`), and load checkpoints into networks (`path.pretrain_network_g`).

`load_strict` loads a whole checkpoint; `warm_start` loads the part that fits, such as the backbone from RCAN's weights.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.zoo import entry as table
from han_arch.zoo import store
from han_arch.zoo.recognise import ASSUMED, HAN_DEFAULTS, Checkpoint, normalisation, read_checkpoint

logger = logging.getLogger("han_arch")

_BACKBONE = ("conv_first.", "body.", "conv_after_body.")
_OF_SCALE = ("upsample.", "conv_last.")
# The arguments of HAN that RCAN has too.
_RCAN_ARGUMENTS = (
    "num_in_ch", "num_out_ch", "num_feat", "num_group", "num_block", "squeeze_factor", "upscale", "res_scale",
    "img_range", "rgb_mean",
)  # fmt: skip


@dataclass(frozen=True)
class WarmStart:
    """Result of a warm start, by name.

    Attributes:
        taken: weights of the network that were loaded.
        fresh: weights of the network that keep their values.
        unused: weights of the checkpoint that were not loaded.
    """

    taken: list[str]
    fresh: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """One line for the log, by part of the network."""
        return f"taken: {_parts(self.taken)}; starts fresh: {_parts(self.fresh)}; not used: {_parts(self.unused)}"


def load_model(path: str | Path) -> HAN:
    """Return the network of a zoo entry or a checkpoint, in evaluation mode, on the CPU, in channels_last.

    Args:
        path: a name of `basicsr zoo list`, such as "han-s-x4", or a checkpoint in any known form. An entry's file comes
            from the package, the cache folder or its address; a download is logged as a warning; the hash is always
            checked. Write `./NAME` for a file with the name of an entry.

    Returns:
        A network from (b, channels, h, w) in [0, 1] to (b, channels, scale*h, scale*w) in [0, 1], not clamped.
        `params_ema` is preferred to `params`. Arguments that the file lacks get the values of the authors' release,
        and are logged.

    Raises:
        FileNotFoundError: no such file.
        UserError: the file is damaged, of another network, or does not fit the network that it describes; no such
            entry, or its file cannot be downloaded.
    """
    path = find_file(path)
    checkpoint = read_checkpoint(path)
    if checkpoint.is_rcan:
        raise UserError(
            f"{path} is a checkpoint of {checkpoint.summary}; wanted HAN's. It can start HAN's training: "
            "path:pretrain_network_g with strict_load_g: false"
        )
    net = build(checkpoint.arguments, str(path))
    load_strict(net, checkpoint)
    if checkpoint.assumed:
        assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
        logger.warning(
            "%s is %s; the file lacks these options, the released form is assumed: %s",
            path,
            checkpoint.summary,
            assumed,
        )
    for note in checkpoint.notes:
        logger.info("%s: %s", path, note)
    return net.eval().to(memory_format=torch.channels_last)


def build(arguments: Mapping[str, Any], source: str) -> HAN:
    """Build HAN with a checkpoint's arguments.

    Raises:
        UserError: no network has these arguments; the message contains source, the file's name.
    """
    try:
        return HAN(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{source} describes no network that can be built: {error}") from error


def complete_options(
    checkpoint: Checkpoint, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return all options of a checkpoint's network, after checking that its weights fit them exactly.

    Args:
        checkpoint: of HAN or RCAN.
        given: `network_g` of an option file; None for the released form of what the checkpoint lacks.

    Returns:
        The options with `type`, and the names of assumed ones.

    Raises:
        UserError: the weights do not fit, or `given` has another type.
    """
    kind = "RCAN" if checkpoint.is_rcan else "HAN"
    if given is not None and given.get("type") != kind:
        raise UserError(f"the option file has a network_g of type {given.get('type')}; {checkpoint.source} is a {kind}")
    own = {key: value for key, value in (given or {}).items() if key != "type"}
    arguments = HAN_DEFAULTS | ASSUMED | checkpoint.arguments | own
    net = build(arguments, checkpoint.source)
    arguments = {name: arguments[name] for name in inspect.signature(HAN).parameters}  # in one order
    arguments["rgb_mean"] = normalisation(arguments)["rgb_mean"]
    if checkpoint.is_rcan:
        _check_rcan(checkpoint)
        arguments = {key: arguments[key] for key in _RCAN_ARGUMENTS}
    else:
        load_strict(net, checkpoint, arguments)
    # An option file has the network's defaults for what it leaves out, and these are the released form.
    assumed = () if given is not None else tuple(key for key in checkpoint.assumed if key in arguments)
    return {"type": kind, **arguments}, assumed


def _check_rcan(checkpoint: Checkpoint) -> None:
    """Check that a checkpoint has exactly the weights of its RCAN, which is HAN without attentions.

    Raises:
        UserError: weights are missing, unknown, or of another shape.
    """
    with torch.device("meta"):
        net = build(checkpoint.arguments, checkpoint.source)
    wanted = {key: value for key, value in net.state_dict().items() if key.startswith((*_BACKBONE, *_OF_SCALE))}
    differences = _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(f"{checkpoint.source} ({checkpoint.summary}) is no whole RCAN: {'; '.join(differences)}")


def find_file(path: str | Path) -> Path:
    """Return the file of a zoo name or a path; download it if necessary.

    Raises:
        UserError: neither an entry nor a file, or the entry's file cannot be downloaded.
    """
    if isinstance(path, str) and table.is_name(path):
        return store.obtain(table.find(path), logger.warning)
    # A word without a suffix is a name.
    if isinstance(path, str) and Path(path).name == path and not Path(path).suffix and not Path(path).is_file():
        table.find(path)
    return Path(path)


def load_strict(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> None:
    """Load a whole checkpoint into a network that it fits exactly.

    Args:
        net: changed in place; unchanged after an error.
        checkpoint: from `read_checkpoint`.
        network_g: net's options; they must agree with those in the checkpoint.

    Raises:
        UserError: it does not fit; the message lists the differences.
    """
    wanted = net.state_dict()
    differences = [] if network_g is None else _differing_options(checkpoint, network_g)
    differences += _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) does not fit the network: {'; '.join(differences)}. To load "
            "the part that fits and start the rest fresh, set path:strict_load_g: false"
        )
    net.load_state_dict(checkpoint.tensors)


def warm_start(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> WarmStart:
    """Load the weights that a checkpoint of HAN or RCAN shares with net; scales may differ.

    The whole backbone must fit. HAN's attention and fusion weights are loaded if name and shape agree. Upsampling and
    last convolution are loaded from the same scale only.

    Args:
        net: a HAN, changed in place.
        checkpoint: from `read_checkpoint`.
        network_g: net's options; normalisation and res_scale must agree, else the backbone computes something else.

    Raises:
        UserError: the backbones differ, or their input does.
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
    """Return the value in a form that is equal for equal networks."""
    value = arguments.get(name)
    if name == "rgb_mean":
        return [round(float(number), 6) for number in normalisation(arguments)["rgb_mean"]]
    if name == "squeeze_factor" and value:  # several factors can give the same shape
        return arguments["num_feat"] // value
    return value


def _parts(keys: list[str]) -> str:
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
