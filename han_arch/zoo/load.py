"""Build networks from checkpoints, and load checkpoints into networks: completely, or only the weights that fit."""

import inspect
import logging
import math
from collections import Counter
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
from han_arch.zoo.state_dict import short

logger = logging.getLogger("han_arch")

_BACKBONE = ("conv_first.", "body.", "conv_after_body.")
_OF_SCALE = ("upsample.", "conv_last.")
_FUSION = ("conv_lam.", "conv_fuse.")
_ATTENTIONS = ("lam.", "csam.", "group_csam.")
_WEIGHTS_OF_BLOCK = 8
_FEW_BLOCKS = 1000  # so many blocks can be built on the device meta in about a second
# The arguments of HAN that RCAN has too.
_RCAN_ARGUMENTS = (
    "num_in_ch", "num_out_ch", "num_feat", "num_group", "num_block", "squeeze_factor", "upscale", "res_scale",
    "img_range", "rgb_mean",
)  # fmt: skip


@dataclass(frozen=True)
class WarmStart:
    """The result of a warm start: the names of loaded, unchanged and unused weights.

    Attributes:
        taken: names of the network's weights that were loaded from the checkpoint.
        fresh: names of the network's weights that were not loaded and did not change.
        unused: names of the checkpoint's weights that were not loaded.
    """

    taken: list[str]
    fresh: list[str]
    unused: list[str]

    @property
    def summary(self) -> str:
        """Log line that counts the loaded, newly initialised and unused weights of each part of the network."""
        return (
            f"loaded: {_parts(self.taken)}; newly initialised: {_parts(self.fresh)}; "
            f"in the checkpoint but not loaded: {_parts(self.unused)}"
        )


def load_model(path: str | Path) -> HAN:
    """Load the network of a zoo entry or a checkpoint, in evaluation mode, on the CPU, in channels_last format.

    If a checkpoint contains `params_ema` and `params`, load_model uses `params_ema`. If an option is missing in the
    checkpoint, load_model uses the value of the authors' release. A warning in the log lists these options.

    Args:
        path: name of a zoo entry, such as "han-s-x4", or path of a checkpoint from any known codebase. To load a
            file that has the same name as an entry, pass `./NAME`. If neither the package nor the cache folder has an
            entry's file, load_model downloads it and logs a warning. The hash of an entry's file is always checked.

    Returns:
        The network. Input: (b, channels, h, w) in [0, 1]. Output: (b, channels, scale*h, scale*w), not clamped.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        UserError: the zoo has no such entry; the entry's file cannot be downloaded; the checkpoint is damaged or
            is not a checkpoint of HAN; a weight has nan or inf; or the weights do not fit the options.
    """
    return load_checked(*find_file(path))


def load_checked(path: Path, sha256: str | None) -> HAN:
    """Load the network of a checkpoint as `load_model` does. Refuse the file if it has another hash than `sha256`."""
    checkpoint = read_checkpoint(path, sha256=sha256)
    if checkpoint.is_rcan:
        raise UserError(
            f"{path} must be a checkpoint of HAN; got {checkpoint.summary}. To start training HAN from it, "
            "set path:pretrain_network_g to this file and path:strict_load_g to false"
        )
    net = build(checkpoint.arguments, checkpoint)
    load_strict(net, checkpoint)
    if checkpoint.assumed:
        assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
        logger.warning(
            f"{path} ({checkpoint.summary}) lacks some options; load_model uses the values of the authors' "
            f"release: {assumed}"
        )
    for note in checkpoint.notes:
        logger.info("%s: %s", path, note)
    return net.eval().to(memory_format=torch.channels_last)


def build(arguments: Mapping[str, Any], checkpoint: Checkpoint) -> HAN:
    """Build the network of a checkpoint, on the CPU, with random weights. `load_strict` then loads the weights.

    A file of a few bytes can describe a network of any size. Therefore, build first compares the shapes of the weights
    in the file with a network on the device meta, which needs no memory for weights.

    Args:
        arguments: arguments of HAN.
        checkpoint: the checkpoint of the network. If it has an RCAN, only the weights of RCAN are compared.

    Raises:
        UserError: HAN rejects the arguments; or the checkpoint does not have all weights of the network except those of
            its attentions, or has others.
    """
    blocks = [arguments.get(name, 1) for name in ("num_group", "num_block")]
    most = max(_FEW_BLOCKS, len(checkpoint.tensors) // _WEIGHTS_OF_BLOCK)
    if all(isinstance(number, int) for number in blocks) and math.prod(blocks) > most:
        raise UserError(
            f"{checkpoint.source} does not fit the network: num_group {blocks[0]} x num_block {blocks[1]} blocks need "
            f"more than the {len(checkpoint.tensors)} weights in the file"
        )
    try:
        with torch.device("meta"):  # custom attentions cannot always be built there
            net = HAN(**{**arguments, "layer_attention": None, "spatial_attention": None})
        # A component without weights leaves no trace in a file. Weights of another one are found by load_strict.
        compared = [] if checkpoint.is_rcan else checkpoint.arguments.keys() - {"layer_attention", "spatial_attention"}
        differences = _differing_options(checkpoint, arguments, sorted(compared))
        wanted, got = dict(net.state_dict()), checkpoint.tensors
        if checkpoint.is_rcan:
            wanted = {key: value for key, value in wanted.items() if not key.startswith(_FUSION)}
        else:
            got = {key: value for key, value in got.items() if not key.startswith(_ATTENTIONS)}
        _refuse(checkpoint, differences + _differing_weights(got, wanted))
        return HAN(**arguments)
    except UserError:
        raise
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = short(" ".join(str(error).split()), 200)
        raise UserError(f"HAN cannot be built with the options of {checkpoint.source}: {reason}") from error


def complete_options(
    checkpoint: Checkpoint, given: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return all options of a checkpoint's network, after checking that the weights fit them exactly.

    Args:
        checkpoint: a checkpoint of HAN or RCAN.
        given: section `network_g` of an option file; its options replace the checkpoint's options. None: use the
            checkpoint's options, and the values of the authors' release for missing options.

    Returns:
        A pair: the options of the network, including `type`; and the names of the options with assumed values.

    Raises:
        UserError: the weights do not fit the options; or the `type` in `given` is not the network of the checkpoint.
    """
    kind = "RCAN" if checkpoint.is_rcan else "HAN"
    if given is not None and given.get("type") != kind:
        raise UserError(
            f"network_g:type in the option file must be {kind}, as in {checkpoint.source}; got {given.get('type')}"
        )
    own = {key: value for key, value in (given or {}).items() if key != "type"}
    arguments = HAN_DEFAULTS | ASSUMED | checkpoint.arguments | own
    net = build(arguments, checkpoint)
    arguments = {name: arguments[name] for name in inspect.signature(HAN).parameters}  # in the order of HAN's signature
    arguments["rgb_mean"] = normalisation(arguments)["rgb_mean"]
    if checkpoint.is_rcan:  # RCAN is HAN without its attentions
        arguments = {key: arguments[key] for key in _RCAN_ARGUMENTS}
    else:
        load_strict(net, checkpoint, arguments)
    # With an option file, nothing is assumed: options that it does not contain have HAN's defaults.
    assumed = tuple(key for key in checkpoint.assumed if key in arguments and given is None)
    return {"type": kind, **arguments}, assumed


def find_file(path: str | Path) -> tuple[Path, str | None]:
    """Return the path of a weight file, and the SHA-256 that the file must have; None for a file of the user.

    If `path` is the name of a zoo entry, this function downloads the entry's file if necessary, and checks its hash.
    Whoever reads the file checks the hash again, because another user of the cache folder can replace the file.

    Raises:
        UserError: `path` is a word without a suffix, but no zoo entry or file has this name; or the download fails.
    """
    file = Path(path)
    # A word without a suffix that is not a file must be the name of an entry.
    is_word = file.name == path and not file.suffix and not file.is_file()
    if isinstance(path, str) and (is_word or table.is_name(path)):
        entry = table.find(path)
        return store.obtain(entry, logger.warning), entry.sha256
    return file, None


def load_strict(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> None:
    """Load a checkpoint into a network with the same weight names and shapes. An error leaves the network unchanged.

    If `network_g` is given, the options in it must equal the options in the checkpoint.

    Raises:
        UserError: the checkpoint does not fit the network; the message lists the differences.
    """
    differences = [] if network_g is None else _differing_options(checkpoint, network_g, checkpoint.arguments)
    _refuse(checkpoint, differences + _differing_weights(checkpoint.tensors, net.state_dict()))
    net.load_state_dict(checkpoint.tensors)


def warm_start(net: nn.Module, checkpoint: Checkpoint, network_g: Mapping[str, Any] | None = None) -> WarmStart:
    """Load those weights of a checkpoint that fit the network. Checkpoint and network may have different scales.

    All weights of the backbone must fit. Weights of HAN's attentions and fusion are loaded if their names and shapes
    are equal. Weights of the upsampling and of the last convolution are loaded only if the scales are equal.

    Args:
        net: a HAN.
        checkpoint: a checkpoint of HAN or RCAN.
        network_g: options of the network. rgb_mean, img_range and res_scale change the results of the backbone, so they
            must have the same values in the checkpoint. None: do not compare options.

    Raises:
        UserError: the backbone does not fit, or rgb_mean, img_range or res_scale differs.
    """
    if network_g is not None:
        differing = _differing_options(checkpoint, network_g, ("rgb_mean", "img_range", "res_scale"))
        if differing:
            raise UserError(
                f"{checkpoint.source} ({checkpoint.summary}) was trained with other options: {'; '.join(differing)}. "
                "Set network_g in the option file to the values in the checkpoint file"
            )
    wanted = net.state_dict()
    same_scale = checkpoint.arguments["upscale"] == getattr(net, "upscale", None)
    taken = {
        key: value
        for key, value in checkpoint.tensors.items()
        if key in wanted and value.shape == wanted[key].shape and (same_scale or not key.startswith(_OF_SCALE))
    }
    lacking = [key for key in wanted if key.startswith(_BACKBONE) and key not in taken]
    excess = [key for key in checkpoint.tensors if key.startswith(_BACKBONE) and key not in taken]
    if lacking or excess:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) has another backbone than the network: {len(lacking)} weights "
            f"of the network and {len(excess)} weights of the file do not match, such as {(lacking or excess)[0]}"
        )
    net.load_state_dict(taken, strict=False)
    fresh, unused = ([key for key in weights if key not in taken] for weights in (wanted, checkpoint.tensors))
    return WarmStart(list(taken), fresh, unused)


def _refuse(checkpoint: Checkpoint, differences: list[str]) -> None:
    """Raise a UserError that lists the differences between a checkpoint and a network, if there are any."""
    if differences:
        raise UserError(
            f"{checkpoint.source} ({checkpoint.summary}) does not fit the network: {'; '.join(differences)}. To "
            "load only the weights that fit and initialise the other weights, set path:strict_load_g to false"
        )


def _differing_weights(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    misshapen = {key for key in tensors.keys() & wanted.keys() if tensors[key].shape != wanted[key].shape}
    differing = {
        "are missing": wanted.keys() - tensors.keys(),
        "are not in the network": tensors.keys() - wanted.keys(),
        "have another shape": misshapen,
    }
    return [
        f"{len(keys)} weights {what} ({', '.join(map(short, sorted(keys)[:3]))}{', ...' if len(keys) > 3 else ''})"
        for what, keys in differing.items()
        if keys
    ]


def _differing_options(checkpoint: Checkpoint, network_g: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    theirs, ours = checkpoint.arguments, HAN_DEFAULTS | dict(network_g)
    return [
        f"{name} is {theirs[name]} in the file, {ours.get(name)} in network_g"
        for name in names
        if name in theirs and _comparable(name, theirs) != _comparable(name, ours)
    ]


def _comparable(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return the value of an option, converted so that values with the same effect are equal."""
    value = arguments.get(name)
    if name == "rgb_mean":
        return [round(float(number), 6) for number in normalisation(arguments)["rgb_mean"]]
    if name == "squeeze_factor" and value:  # two factors can give the same number of channels
        return arguments["num_feat"] // value
    return value


def _parts(keys: list[str]) -> str:
    counts = Counter(key.split(".")[0] for key in keys)
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
