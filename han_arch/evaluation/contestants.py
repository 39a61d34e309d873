"""What stands on a leaderboard: Bicubic and networks with their weights, all asked alike for an image."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from han_arch import compat
from han_arch.errors import UserError
from han_arch.evaluation import score
from han_arch.evaluation.protocol import Protocol
from han_arch.inference import variants
from han_arch.zoo import entry, load, store
from han_arch.zoo.read import read_raw

logger = logging.getLogger("han_arch")

BICUBIC = "Bicubic"
KEYS = ("type", "zoo", "checkpoint", "param_key", "network_g")
_PROBE = 12  # LR pixels of a side for trying whether a network runs at the scale


@dataclass(frozen=True)
class Contestant:
    """One model.

    Attributes:
        name: as the board prints it.
        net: in evaluation mode on its device, None for Bicubic.
        weights_sha256: of the checkpoint file, "" for Bicubic.
        identity: SHA-256 over all that decides the output: weights, network options; for the cache.
    """

    name: str
    net: nn.Module | None
    weights_sha256: str
    identity: str

    @property
    def parameters(self) -> int:
        """Number of weights that training changes."""
        return 0 if self.net is None else sum(weight.numel() for weight in self.net.parameters())

    def upscale(self, lq: np.ndarray, protocol: Protocol, variant: str = variants.FULL) -> np.ndarray:
        """Super-resolve an image.

        Args:
            lq: uint8, (h, w, 3) RGB or (h, w) grey; a network gets grey as three equal channels, and the mean of its
                three is taken.
            protocol: its scale, and for Bicubic LR's border convention.
            variant: see `variants`; Bicubic knows "full" only.

        Returns:
            uint8, (scale * h, scale * w) and the channels of lq; a network's output is clamped and rounded once.

        Raises:
            FloatingPointError: the network's output has nan or inf.
        """
        if self.net is None:
            return score.degradation_of(protocol).upscale(lq)
        run = variants.apply(variant, self.net, protocol.scale)
        with torch.inference_mode():
            sr = run(to_tensor(score.as_rgb(lq), next(self.net.parameters()).device))
        if not torch.isfinite(sr).all():
            raise FloatingPointError(f"{self.name} ({variant}) gives nan or inf")
        image = (sr[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        return image if lq.ndim == 3 else np.rint(image.mean(axis=2)).astype(np.uint8)


def to_tensor(image: np.ndarray, device: torch.device) -> Tensor:
    """(h, w, 3) uint8 RGB -> (1, 3, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(device).float()[None] / 255


def build(name: str, options: Mapping[str, Any], scale: int, device: torch.device) -> Contestant:
    """Build a contestant, load its weights and try it on a few pixels.

    Args:
        name: as the board prints it.
        options: `type: Bicubic`; or `zoo`, the name of an entry, which is fetched if need be; or `checkpoint` (a
            file), `network_g` (as in an option file; HAN's own checkpoints need none) and
            `param_key` (default: the averaged weights where the file has them). Networks of BasicSR's registry need it
            imported and the plugins loaded.
        scale: the board's scale.
        device: where it runs.

    Raises:
        UserError: an unknown option, no file, weights that do not fit, or another scale.
    """
    unknown = [key for key in options if key not in KEYS]
    if unknown:
        raise UserError(f"no option {', '.join(unknown)}; there are {', '.join(KEYS)}")
    if options.get("type") == BICUBIC:
        return Contestant(name, None, "", _sha256(BICUBIC.encode()))
    if "zoo" in options:
        rest = [key for key in options if key != "zoo"]
        if rest:
            raise UserError(f"zoo says all of the model; {', '.join(rest)} cannot stand beside it")
        options = {"checkpoint": str(store.obtain(entry.find(str(options["zoo"])), logger.warning))}
    path = options.get("checkpoint")
    if not isinstance(path, str):
        raise UserError(f"wants `type: {BICUBIC}`, `zoo`, `checkpoint` or `experiment`; got {dict(options)}")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"no checkpoint {file} (looked for from {Path.cwd()})")
    network_g, param_key = options.get("network_g"), options.get("param_key")
    net = _load(file, network_g, param_key).eval().to(device)
    _try(net, scale, device)
    weights = _sha256(file.read_bytes())
    identity = _sha256(json.dumps([weights, network_g, param_key], sort_keys=True).encode())
    return Contestant(name, net, weights, identity)


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


def _try(net: nn.Module, scale: int, device: torch.device) -> None:
    with torch.inference_mode():
        height, width = net(torch.zeros(1, 3, _PROBE, _PROBE + 1, device=device)).shape[-2:]
    if (height, width) != (scale * _PROBE, scale * (_PROBE + 1)):
        raise UserError(f"is a network of x{height / _PROBE:g}; the board is x{scale}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
