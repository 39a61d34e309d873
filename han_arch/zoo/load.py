"""Build networks from checkpoints (`load_model`), and load checkpoints into networks (`path.pretrain_network_g`).

`load_strict` loads a complete checkpoint. `warm_start` loads only the weights that fit, for example the weights of an
RCAN into the backbone of HAN.
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
    """The result of a warm start: names of the weights that were loaded, and names of the others.

    Attributes:
        taken: names of the network's weights that were loaded from the checkpoint.
        fresh: names of the network's weights that were not loaded; their values did not change.
        unused: names of the checkpoint's weights that were not loaded.
    """

    taken: list[str]
    fresh: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """Log line with the numbers of loaded, newly initialised and unused weights, per part of the network."""
        return (
            f"loaded: {_parts(self.taken)}; newly initialised: {_parts(self.fresh)}; "
            f"in the checkpoint but not loaded: {_parts(self.unused)}"
        )


def load_model(path: str | Path) -> HAN:
    """Load the network of a zoo entry or a checkpoint, in evaluation mode, on the CPU, in channels_last format.

    If a checkpoint contains `params_ema` and `params`, `params_ema` is used. Options that the checkpoint does not
    contain get the values of the authors' release; a warning in the log lists them.

    Args:
        path: name of a zoo entry, such as "han-s-x4", or path of a checkpoint from any known codebase. If the package
            and the cache folder do not contain the file of an entry, it is downloaded, with a warning in the log. The
            hash of the file is always checked. For a file with the same name as an entry, write `./NAME`.

    Returns:
        A network that maps (b, channels, h, w) in [0, 1] to (b, channels, scale*h, scale*w), not clamped to [0, 1].

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        UserError: the zoo has no such entry, or its file cannot be downloaded. Or the checkpoint is damaged, belongs to
            another network, or has weights that do not fit its options.
    """
    path = find_file(path)
    checkpoint = read_checkpoint(path)
    if checkpoint.is_rcan:
        raise UserError(
            f"{path} must be a checkpoint of HAN; got {checkpoint.summary}. To start training HAN from it, "
            "set path:pretrain_network_g to this file and path:strict_load_g to false"
        )
    net = build(checkpoint.arguments, str(path))
    load_strict(net, checkpoint)
    if checkpoint.assumed:
        assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
        logger.warning(
            "%s (%s) does not contain these options; the values of the authors' release are assumed: %s",
            path,
            checkpoint.summary,
            assumed,
        )
    for note in checkpoint.notes:
        logger.info("%s: %s", path, note)
    return net.eval().to(memory_format=torch.channels_last)


def build(arguments: Mapping[str, Any], source: str) -> HAN:
    """Build HAN with the construction arguments of a checkpoint.

    Raises:
        UserError: HAN rejects the arguments; the message contains `source`, the path of the checkpoint.
    """
    try:
        return HAN(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"HAN cannot be built with the options of {source}: {error}") from error


def complete_options(
    checkpoint: Checkpoint, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return all options of a checkpoint's network, after checking that the weights fit them exactly.

    Args:
        checkpoint: a checkpoint of HAN or RCAN.
        given: section `network_g` of an option file; its options replace the checkpoint's options. If it is None, the
            values of the authors' release are assumed for options that the checkpoint does not contain.

    Returns:
        The options of the network, including `type`, and the names of the options with assumed values.

    Raises:
        UserError: the weights do not fit the options, or `given` has another type of network.
    """
    kind = "RCAN" if checkpoint.is_rcan else "HAN"
    if given is not None and given.get("type") != kind:
        raise UserError(
            f"network_g:type in the option file must be {kind}, as in {checkpoint.source}; got {given.get('type')}"
        )
    own = {key: value for key, value in (given or {}).items() if key != "type"}
    arguments = HAN_DEFAULTS | ASSUMED | checkpoint.arguments | own
    net = build(arguments, checkpoint.source)
    arguments = {name: arguments[name] for name in inspect.signature(HAN).parameters}  # in the order of HAN's signature
    arguments["rgb_mean"] = normalisation(arguments)["rgb_mean"]
    if checkpoint.is_rcan:
        _check_rcan(checkpoint)
        arguments = {key: arguments[key] for key in _RCAN_ARGUMENTS}
    else:
        load_strict(net, checkpoint, arguments)
    # With an option file nothing is assumed: options that it does not contain have HAN's defaults.
    assumed = () if given is not None else tuple(key for key in checkpoint.assumed if key in arguments)
    return {"type": kind, **arguments}, assumed


def _check_rcan(checkpoint: Checkpoint) -> None:
    """Check that a checkpoint has all weights of an RCAN and no others. RCAN is HAN without its attentions.

    Raises:
        UserError: weights are missing, unknown or have a wrong shape.
    """
    with torch.device("meta"):
        net = build(checkpoint.arguments, checkpoint.source)
    wanted = {key: value for key, value in net.state_dict().items() if key.startswith((*_BACKBONE, *_OF_SCALE))}
    differences = _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(f"{checkpoint.source} ({checkpoint.summary}) is not a complete RCAN: {'; '.join(differences)}")


def find_file(path: str | Path) -> Path:
    """Return the path of a weight file. For the name of a zoo entry, return its file; download it if necessary.

    Raises:
        UserError: `path` is one word without a suffix, but neither a zoo entry nor a file. Or the download fails.
    """
    if isinstance(path, str) and table.is_name(path):
        return store.obtain(table.find(path), logger.warning)
    # A word without a suffix that is not a file must be the name of an entry.
    if isinstance(path, str) and Path(path).name == path and not Path(path).suffix and not Path(path).is_file():
        table.find(path)
    return Path(path)


def load_strict(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> None:
    """Load a complete checkpoint into a network that it fits exactly.

    Args:
        net: the network to load the weights into. If the function raises an error, the network is unchanged.
        checkpoint: the checkpoint, as returned by `read_checkpoint`.
        network_g: options of the network. They must equal the options in the checkpoint. If it is None, the function
            does not compare options.

    Raises:
        UserError: the checkpoint does not fit the network; the message lists the differences.
    """
    wanted = net.state_dict()
    differences = [] if network_g is None else _differing_options(checkpoint, network_g)
    differences += _differing_weights(checkpoint.tensors, wanted)
    if differences:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) does not fit the network: {'; '.join(differences)}. To "
            "train with the weights that fit and initialise the others, set path:strict_load_g to false"
        )
    net.load_state_dict(checkpoint.tensors)


def warm_start(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> WarmStart:
    """Load the weights of a checkpoint that fit the network. Checkpoint and network may have different scales.

    All weights of the backbone must fit. Weights of HAN's attentions and fusion are loaded if their names and shapes
    are equal. Weights of the upsampling and of the last convolution are loaded only if the scales are equal.

    Args:
        net: the HAN to load the weights into.
        checkpoint: a checkpoint of HAN or RCAN, as returned by `read_checkpoint`.
        network_g: options of the network. Its rgb_mean, img_range and res_scale must equal those in the checkpoint,
            because they change the results of the backbone. If it is None, the function does not compare options.

    Raises:
        UserError: the backbone does not fit, or one of the three options differs.
    """
    if network_g is not None:
        differing = _differing_options(checkpoint, network_g, ("rgb_mean", "img_range", "res_scale"))
        if differing:
            raise UserError(
                f"{checkpoint.source} ({checkpoint.summary}) was trained with other options: {'; '.join(differing)}. "
                "Set network_g in the option file to the values in the checkpoint file"
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
            f"{checkpoint.source} ({checkpoint.summary}) has another backbone than the network: {len(lacking)} "
            f"weights of the network and {len(excess)} of the file do not fit, such as {(lacking or excess)[0]}"
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
        ("are missing", sorted(wanted.keys() - tensors.keys())),
        ("are not in the network", sorted(tensors.keys() - wanted.keys())),
        ("have another shape", _misshapen(tensors, wanted)),
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
    """Return the value of an option in a normal form: two values with the same effect give the same result."""
    value = arguments.get(name)
    if name == "rgb_mean":
        return [round(float(number), 6) for number in normalisation(arguments)["rgb_mean"]]
    if name == "squeeze_factor" and value:  # two factors can give the same number of channels
        return arguments["num_feat"] // value
    return value


def _parts(keys: list[str]) -> str:
    counts: dict[str, int] = {}
    for key in keys:
        part = key.split(".")[0]
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
