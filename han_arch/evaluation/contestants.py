"""The contestants of a leaderboard: Bicubic and trained networks behind one interface."""

import hashlib
import json
import logging
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

logger = logging.getLogger("han_arch")

BICUBIC = "Bicubic"
LATEST = Path("models", "net_g_latest.pth")  # of a finished training, in its experiment's folder
KEYS = ("type", "zoo", "checkpoint", "param_key", "network_g", "variants", "published")
_BOARD_KEYS = ("variants", "published")
_PROBE = 12  # LR pixels of a side for the trial run


@dataclass(frozen=True)
class Contestant:
    """A model on a board.

    Attributes:
        name: as the board prints it.
        net: in evaluation mode on its device, None for Bicubic.
        weights_sha256: of the checkpoint file, "" for Bicubic.
        identity: SHA-256 of weights and network options, for the cache.
        variants: inference variants to measure it in.
        published: its method in the papers' tables, if any.
    """

    name: str
    net: nn.Module | None
    weights_sha256: str
    identity: str
    variants: tuple[str, ...] = (FULL,)
    published: str | None = None

    @property
    def parameters(self) -> int:
        """Number of weights that training changes."""
        return 0 if self.net is None else sum(weight.numel() for weight in self.net.parameters())

    def upscale(self, lq: np.ndarray, protocol: Protocol, variant: str = FULL) -> np.ndarray:
        """Super-resolve an image at the protocol's scale; Bicubic also follows its border convention of LR.

        Args:
            lq: uint8, (h, w, 3) RGB or (h, w) grey. A network gets grey as three equal channels, and the mean of its
                three output channels is returned.
            variant: see `variants`; Bicubic has "full" only.

        Returns:
            uint8, (scale * h, scale * w) and the channels of lq; a network's output is clamped and rounded once.

        Raises:
            FloatingPointError: the network's output has nan or inf.
        """
        if self.net is None:
            return protocol.lr_degradation.upscale(lq)
        run = variants.apply(variant, self.net, protocol.scale)
        with torch.inference_mode():
            sr = run(to_tensor(lq, next(self.net.parameters()).device))
        if not torch.isfinite(sr).all():
            raise FloatingPointError(f"the output of {self.name} ({variant}) has nan or inf")
        image = (sr[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        return image if lq.ndim == 3 else np.rint(image.mean(axis=2)).astype(np.uint8)


def build(name: str, options: Any, scale: int, device: torch.device, default_variants: Any = (FULL,)) -> Contestant:
    """Build a contestant for a scale and a device, load its weights and run it on a few pixels.

    Args:
        name: as the board prints it.
        options: a mapping with one of
            - `type: Bicubic`;
            - `zoo`: the name of an entry; its file is downloaded if need be;
            - `checkpoint`: a file, with `network_g` as in an option file (HAN's own checkpoints need none) and
              `param_key` (default: the averaged weights where the file has them). Networks of BasicSR's registry need
              BasicSR imported and the plugins loaded.

            and optionally `variants` and `published` (default: the name). A name alone is an entry of the zoo; None
            is the entry that the contestant is named after.
        default_variants: the board's.

    Raises:
        UserError: an unknown option, a missing file, weights that do not fit, or another scale.
    """
    if options is None and entry.is_name(name):
        options = name
    if isinstance(options, str):
        options = {"zoo": options}
    if not isinstance(options, Mapping):
        raise UserError(f"must be a mapping or an entry of the zoo; got {options!r}")
    for key in options:
        if key not in KEYS:
            raise unknown("option", key, (*KEYS, "experiment"))
    own = {key: value for key, value in options.items() if key not in _BOARD_KEYS}
    published = options.get("published", name)
    if own.get("type") == BICUBIC:
        return Contestant(name, None, "", _sha256(BICUBIC), published=published)
    chosen = options.get("variants", default_variants) or [FULL]
    if not isinstance(chosen, (list, tuple)):
        raise UserError(f"variants must be a list; got {chosen!r}")
    for variant in chosen:
        variants.check(variant)
    file = _obtain_file(own)
    network_g, param_key = own.get("network_g"), own.get("param_key")
    net = _load(file, network_g, param_key).eval().to(device)
    _check_scale(net, scale, device)
    weights = hash_file(file)
    identity = _sha256(json.dumps([weights, network_g, param_key], sort_keys=True))
    return Contestant(name, net, weights, identity, tuple(chosen), published)


def with_experiments(models: Any, read: Callable[[Path], Mapping[str, Any]]) -> Any:
    """Return a file's `models` with `experiment: FOLDER` replaced by the checkpoint and network_g of that training.

    `read` reads an option file. Models that are no mapping are returned as they are.

    Raises:
        UserError: a missing folder, or one without option file or weights; one line for each.
    """
    if not isinstance(models, Mapping):
        return models
    resolved, faults = dict(models), []
    for name, options in models.items():
        if not isinstance(options, Mapping) or "experiment" not in options:
            continue
        rest = {key: value for key, value in options.items() if key != "experiment"}
        folder = Path(str(options["experiment"])).expanduser()
        try:
            option_file = find_option_file(folder)
            found = {} if "checkpoint" in rest else {"checkpoint": str(find_weights(folder / LATEST))}
            resolved[name] = {**found, "network_g": read(option_file).get("network_g"), **rest}
        except UserError as error:
            faults.append(f"{name}: {error}")
    if faults:
        raise UserError("\n  ".join(["experiments that cannot be measured; train or remove them:", *faults]))
    return resolved


def find_option_file(experiment: Path) -> Path:
    """Find the one option file that BasicSR copied into an experiment's folder.

    Raises:
        UserError: no such folder, or it does not hold exactly one option file.
    """
    if not experiment.is_dir():
        raise UserError(f"no experiment {experiment} (looked for from {Path.cwd()})")
    files = sorted(experiment.glob("*.yml"))
    if len(files) != 1:
        raise UserError(f"{experiment} must hold the one option file of its training; it has {len(files)}")
    return files[0]


def find_weights(path: Path) -> Path:
    """Return the path of an experiment's weights.

    Raises:
        UserError: the file does not exist; the message lists the other weights of its folder.
    """
    if path.is_file():
        return path
    ended = ": the training has not ended" if path.name == LATEST.name else ""
    others = ", ".join(sorted(other.name for other in path.parent.glob("net_g_*.pth")))
    raise UserError(f"no {path}{ended}{others and f'; there are {others}'}; name another checkpoint")


def _obtain_file(options: Mapping[str, Any]) -> Path:
    if "zoo" in options:
        if len(options) > 1:
            rest = ", ".join(key for key in options if key != "zoo")
            raise UserError(f"a zoo entry defines the whole model; remove {rest}")
        return store.obtain(entry.find(str(options["zoo"])), logger.warning)
    path = options.get("checkpoint")
    if not isinstance(path, str):
        raise UserError(f"needs `type: {BICUBIC}`, `zoo`, `checkpoint` or `experiment`; got {dict(options)}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"no checkpoint {file} (looked for from {Path.cwd()})")
    return file


def _load(file: Path, network_g: Mapping[str, Any] | None, param_key: str | None) -> nn.Module:
    if network_g is None:
        return load.load_model(file)
    compat.require_basicsr()
    from basicsr.archs import build_network

    try:
        net = build_network(dict(network_g))
    except (KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise UserError(f"network_g cannot be built: {error}") from error
    if network_g.get("type") == "HAN":
        load.load_strict(net, load.read_checkpoint(file, param_key))
        return net
    try:
        net.load_state_dict(read_raw(file, param_key).tensors)
    except RuntimeError as error:
        first = " ".join(str(error).split()[:24])
        raise UserError(f"{file} does not fit {network_g.get('type')}: {first} ...") from error
    return net


def _check_scale(net: nn.Module, scale: int, device: torch.device) -> None:
    with torch.inference_mode():
        height, width = net(torch.zeros(1, 3, _PROBE, _PROBE + 1, device=device)).shape[-2:]
    if (height, width) != (scale * _PROBE, scale * (_PROBE + 1)):
        raise UserError(f"the network upscales x{height / _PROBE:g}; the board is x{scale}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
