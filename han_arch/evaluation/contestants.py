"""The contestants of a leaderboard. One class serves for trained networks and for bicubic interpolation."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from han_arch import compat
from han_arch.errors import UserError, unknown
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import to_tensor
from han_arch.files import hash_file
from han_arch.inference import variants
from han_arch.inference.variants import FULL
from han_arch.zoo import entry, load, store
from han_arch.zoo.read import read_raw
from han_arch.zoo.size_limit import build_empty
from han_arch.zoo.state_dict import most_bytes, of_one_network

logger = logging.getLogger("han_arch")

BICUBIC = "Bicubic"
LATEST = Path("models", "net_g_latest.pth")  # weights of a finished training, in the folder of its experiment
KEYS = ("type", "zoo", "checkpoint", "param_key", "network_g", "variants", "published")
_PROBE = 12  # height in pixels of the LR image for checking a network's scale


@dataclass(frozen=True)
class Contestant:
    """A model on a leaderboard: a trained network, or bicubic interpolation."""

    name: str
    net: nn.Module | None  # the network, in evaluation mode on its device; None for Bicubic
    weights_sha256: str  # SHA-256 of the checkpoint file; "" for Bicubic
    identity: str  # SHA-256 of the weights and the network options; a part of the keys in the score cache
    variants: tuple[str, ...] = (FULL,)  # the inference variants in which the model is measured
    published: str = ""  # name of this model in the table of published scores; if "", it is not compared with them

    @property
    def parameters(self) -> int:
        """The number of parameters of the network; 0 for Bicubic."""
        return 0 if self.net is None else sum(weight.numel() for weight in self.net.parameters())

    def upscale(self, lq: np.ndarray, protocol: Protocol, variant: str = FULL) -> np.ndarray:
        """Super-resolve an LR image. Clamp the output of a network to [0, 1] and convert it to uint8.

        Args:
            lq: the LR image: uint8, (h, w, 3) RGB or (h, w) grey. A network gets a grey image as three equal channels,
                and the grey SR image is the rounded mean of the three uint8 output channels.
            protocol: the protocol. It sets the scale and, for Bicubic, how the image is extended at its borders.
            variant: name of an inference variant, see `inference.variants`. Bicubic ignores it.

        Returns:
            The SR image: uint8, (scale * h, scale * w, 3) or (scale * h, scale * w).

        Raises:
            FloatingPointError: the output of the network has nan or inf.
            Exception: any other exception that the network raises.
        """
        if self.net is None:
            return protocol.lr_degradation.upscale(lq)
        run = variants.apply(variant, self.net, protocol.scale)
        with torch.inference_mode():
            sr = run(to_tensor(lq, next(self.net.parameters()).device))
        if not torch.isfinite(sr).all():
            raise FloatingPointError(f"the output of {self.name} (variant {variant}) has nan or inf")
        image = (sr[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        return image if lq.ndim == 3 else np.rint(image.mean(axis=2)).astype(np.uint8)


def label(name: str, variant: str) -> str:
    """Return the label of a contestant's row: its name, with the variant in brackets if the variant is not "full"."""
    return name if variant == FULL else f"{name} ({variant})"


def build(name: str, options: Any, scale: int, device: torch.device, default_variants: Any = (FULL,)) -> Contestant:
    """Build a contestant, load its weights, and run it on a small image to check its scale.

    Args:
        name: name of the contestant in the tables.
        options: one of: the name of a zoo entry (str); None, if `name` itself is the name of a zoo entry; or a mapping
            with one of these keys:

            - `type: Bicubic`;
            - `zoo`: name of a zoo entry. The weight file is downloaded if it is not on this machine;
            - `checkpoint`: path of a weight file. If the network is not HAN, the key `network_g` must contain the
              network's options, as in an option file; load BasicSR's plugins before you call this function. With
              `network_g`, the key `param_key` can select weights in the file (default: averaged weights, if the file
              has them).

            The keys `variants` and `published` (default: `name`) are optional.
        scale: scale of the leaderboard. The network must have the same scale.
        default_variants: inference variants to use if the mapping has no `variants`.

    Raises:
        UserError: an option is unknown, a file is missing, the weights do not fit the network or have nan or inf, or
            the scale of the network is not `scale`.
    """
    if options is None and entry.is_name(name):
        options = name
    if isinstance(options, str):
        options = {"zoo": options}
    if not isinstance(options, Mapping):
        raise UserError(f"the options of a model must be a mapping or the name of a zoo entry; got {options!r}")
    for key in options:
        if key not in KEYS:
            raise unknown("model option", key, (*KEYS, "experiment"))
    published = str(options.get("published", name) or "")
    if options.get("type") == BICUBIC:
        return Contestant(name, None, "", _sha256(BICUBIC), published=published)
    chosen = options.get("variants", default_variants) or [FULL]
    if not isinstance(chosen, (list, tuple)):
        raise UserError(f"variants must be a list of inference variants, such as [full, chop]; got {chosen!r}")
    for variant in chosen:
        variants.check(variant)
    file, weights = _obtain_file(options)
    network_g, param_key = options.get("network_g"), options.get("param_key")
    net = _load(file, weights, network_g, param_key).eval().to(device)
    _check_scale(net, scale, device)
    _check_finite(file, net)
    identity = _sha256(json.dumps([weights, network_g, param_key], sort_keys=True, default=str))
    return Contestant(name, net, weights, identity, tuple(dict.fromkeys(chosen)), published)


def with_experiments(models: Any, read: Callable[[Path], Mapping[str, Any]]) -> Any:
    """Return a copy of `models`. Replace each `experiment: FOLDER` by `checkpoint` and `network_g` from this folder.

    Args:
        models: the option `models` of a leaderboard. A value that is not a mapping is returned unchanged.
        read: function that takes the path of an option file and returns its content.

    Raises:
        UserError: a folder is missing, has no weights, or has 0 or several option files. The message lists all faults.
    """
    if not isinstance(models, Mapping):
        return models
    resolved, faults = dict(models), []
    for name, options in models.items():
        if not isinstance(options, Mapping) or "experiment" not in options:
            continue
        rest = dict(options)
        folder = Path(os.path.expanduser(str(rest.pop("experiment"))))
        try:
            option_file = find_option_file(folder)
            found = {} if "checkpoint" in rest else {"checkpoint": str(find_weights(folder / LATEST))}
            resolved[name] = {**found, "network_g": read(option_file).get("network_g"), **rest}
        except UserError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise UserError("\n  ".join(["these experiments cannot be measured; train or remove them:", *faults]))
    return resolved


def find_option_file(experiment: Path) -> Path:
    """Return the path of the option file in an experiment's folder. Raise UserError if there is not exactly one."""
    if not experiment.is_dir():
        raise UserError(f"there is no experiment folder {experiment} (paths are relative to {Path.cwd()})")
    files = sorted(experiment.glob("*.yml"))
    if len(files) != 1:
        raise UserError(f"{experiment} must contain exactly one option file (.yml); it has {len(files)}")
    return files[0]


def find_weights(path: Path) -> Path:
    """Return `path` if this weight file exists. Otherwise raise UserError with a list of the folder's weight files."""
    if path.is_file():
        return path
    ended = " (the training has not finished)" if path.name == LATEST.name else ""
    others = ", ".join(sorted(other.name for other in path.parent.glob("net_g_*.pth"))) or "none"
    raise UserError(
        f"there is no weight file {path}{ended}; weight files in the folder: {others}; choose a weight file with "
        "checkpoint (option file) or --checkpoint (basicsr zoo publish)"
    )


def _obtain_file(options: Mapping[str, Any]) -> tuple[Path, str]:
    """Return the path of a weight file, and its SHA-256."""
    if "zoo" in options:
        if rest := ", ".join(key for key in options if key not in ("zoo", "variants", "published")):
            raise UserError(f"`zoo` already defines the network and its weights; remove {rest}")
        found = entry.find(str(options["zoo"]))
        file = store.obtain(found, logger.warning)
        return file, found.sha256 or hash_file(file)
    path = options.get("checkpoint")
    if not isinstance(path, str):
        choices = f"`type: {BICUBIC}`, `zoo: NAME`, `checkpoint: FILE`, `experiment: FOLDER`"
        raise UserError(f"a model needs one of the options {choices}; got {dict(options)}")
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        raise UserError(f"there is no weight file {file} (paths are relative to {Path.cwd()})")
    return file, hash_file(file)


def _load(file: Path, sha256: str, network_g: Mapping[str, Any] | None, param_key: str | None) -> nn.Module:
    if network_g is None:
        if param_key is not None:
            raise UserError(f"param_key {param_key!r} needs network_g; add network_g, or remove param_key")
        return load.load_checked(file, sha256)
    if not isinstance(network_g, Mapping):
        raise UserError(f"network_g must be a mapping of options, as in an option file; got {network_g!r:.100}")
    compat.require_basicsr()
    from basicsr.archs import build_network

    if network_g.get("type") == "HAN":
        checkpoint = load.read_checkpoint(file, param_key, sha256=sha256)
        han = load.build({key: value for key, value in network_g.items() if key != "type"}, checkpoint)
        load.load_strict(han, checkpoint)
        return han
    tensors = read_raw(file, param_key, sha256=sha256).tensors
    misfit = f"the weights in {file} do not fit the network {network_g.get('type')} of network_g:"
    try:
        net = build_empty(lambda: build_network(dict(network_g)))
        needed, stored = (sum(value.nbytes for value in own.values()) for own in (net.state_dict(), tensors))
        if needed > most_bytes(stored):
            raise UserError(f"{misfit} the network has {needed:,} bytes of weights, and the file has {stored:,}")
        net = build_network(dict(network_g))
    except UserError:
        raise
    except Exception as error:  # constructors of other packages may raise any exception
        raise UserError(f"cannot build the network of network_g; correct its options: {error}") from error
    try:
        net.load_state_dict(of_one_network(tensors, list(net.state_dict())[:1], str(file)))
    except RuntimeError as error:
        raise UserError(f"{misfit} {' '.join(str(error).split()[:24])} ...") from error
    return net


def _check_scale(net: nn.Module, scale: int, device: torch.device) -> None:
    try:
        with torch.inference_mode():
            height, width = net(torch.zeros(1, 3, _PROBE, _PROBE + 1, device=device)).shape[-2:]
    except Exception:  # a network may raise any exception for this image; the measurement then reports the test images
        return
    if (height, width) != (scale * _PROBE, scale * (_PROBE + 1)):
        raise UserError(f"the network upscales by x{height / _PROBE:g}; choose weights for x{scale}")


def _check_finite(file: Path, net: nn.Module) -> None:
    wrong = [key for key, value in net.named_parameters() if not value.isfinite().all()]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise UserError(f"the weights in {file} have nan or inf ({wrong[0]}{more}); choose an earlier checkpoint")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
