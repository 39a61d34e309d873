"""Whose checkpoint a file is: HAN's own, the HAN authors' (super-image's too), or RCAN's in either of its forms."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from han_arch.archs.han_arch import DIV2K_RGB_MEAN, HAN
from han_arch.errors import UserError
from han_arch.zoo.construction import ASSUMED, arguments_from_shapes
from han_arch.zoo.convert import from_authors
from han_arch.zoo.read import RawCheckpoint, read_raw

OURS, AUTHORS, RCAN_AUTHORS, RCAN_BASICSR = (
    "HAN",
    "HAN in the authors' form",
    "RCAN in its authors' form",
    "RCAN in BasicSR's form",
)
HAN_DEFAULTS = {
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


def read_checkpoint(path: str | Path, weight_key: str | None = None) -> Checkpoint:
    """Read a checkpoint of any of the forms above; see `read_raw` for weight_key and for what may go wrong.

    Raises:
        FileNotFoundError: no such file.
        UserError: damaged, no checkpoint, of another network, or with keys that belong to none.
    """
    raw = read_raw(path, weight_key)
    notes: tuple[str, ...] = ()
    if weight_key is not None and raw.weight_key not in (None, weight_key):
        notes = (f"it has no {weight_key}; {raw.weight_key} is taken",)
    return understand(raw, str(path), notes)


def understand(raw: RawCheckpoint, source: str, notes: tuple[str, ...] = ()) -> Checkpoint:
    """Recognise what was read.

    Args:
        raw: the tensors, and the options where there were any.
        source: name of the file, for messages.
        notes: what is already to be said of it.

    Raises:
        UserError: of another network, or with keys that belong to none.
    """
    tensors = raw.tensors
    odd = [key for key, value in tensors.items() if not value.is_floating_point()]
    if odd:
        raise UserError(f"{source} holds {len(odd)} weights that are no floating-point numbers, such as {odd[0]}")
    kind = _recognise(tensors, raw.network_g, source)
    told: dict[str, Any] = {}
    if kind in (AUTHORS, RCAN_AUTHORS):
        converted = from_authors(tensors, DIV2K_RGB_MEAN, source)
        tensors, notes = converted.tensors, notes + converted.notes
        told = {"img_range": converted.img_range, "rgb_mean": converted.rgb_mean, "res_scale": 1}
        if kind == AUTHORS:
            told["lam_form"] = "released"
    elif raw.network_g is not None and kind == OURS:
        if raw.network_g.get("type", "HAN") != "HAN":
            raise UserError(f"{source} holds HAN's weights beside options of {raw.network_g['type']}; wanted HAN's")
        told = HAN_DEFAULTS | {key: value for key, value in raw.network_g.items() if key != "type"}
    elif raw.network_g is not None:
        told = {key: raw.network_g[key] for key in ("res_scale", "img_range", "rgb_mean") if key in raw.network_g}
    arguments = arguments_from_shapes(tensors, source) | told
    assumed = tuple(key for key in ASSUMED if key not in arguments)
    return Checkpoint(source, kind, tensors, arguments, assumed, notes)


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
