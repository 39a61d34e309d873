"""Inference variants by name: how a network is run over an image. Each changes the result, so results name them."""

import re
from collections.abc import Callable

from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.chop import chop
from han_arch.inference.self_ensemble import self_ensemble
from han_arch.inference.tiling import OVERLAP, TILE, tile

Run = Callable[[Tensor], Tensor]  # (b, channels, h, w) -> (b, channels, scale*h, scale*w)

FULL = "full"
PATTERN = r"full|(?:PART)(?:\+(?:PART))*".replace("PART", r"chop|self_ensemble|tiled(?:-[1-9]\d*-\d+)?")
_TILED = re.compile(r"tiled(?:-(?P<size>[1-9]\d*)-(?P<overlap>\d+))?")
WAYS = ("chop", "self_ensemble", "tiled", "tiled-SIZE-OVERLAP")


def check(variant: str) -> None:
    """Check a variant's name: "full", or several of `WAYS` joined by "+", the innermost first ("chop+self_ensemble").

    "tiled" alone has the sizes of `inference.tiling`, else they are LR pixels ("tiled-64-8").

    Raises:
        UserError: it is none.
    """
    parts = str(variant).split("+")
    good = all(part in ("chop", "self_ensemble") or _TILED.fullmatch(part) for part in parts)
    if variant != FULL and (len(set(parts)) < len(parts) or not good):
        raise UserError(f"variant must be {FULL}, or one of {', '.join(WAYS)} or several joined by +; got {variant!r}")


def apply(variant: str, run: Run, scale: int) -> Run:
    """The network as the variant runs it.

    Args:
        variant: a name that `check` takes.
        run: the network.
        scale: its scale.
    """
    for part in variant.split("+"):
        if part != FULL:
            run = _wrap(part, run, scale)
    return run


def _wrap(part: str, run: Run, scale: int) -> Run:
    if part == "chop":
        return lambda lq: chop(run, lq, scale)
    if part == "self_ensemble":
        return lambda lq: self_ensemble(run, lq)
    match = _TILED.fullmatch(part)
    size, overlap = (match["size"], match["overlap"]) if match else (None, None)
    return lambda lq: tile(run, lq, scale, int(size or TILE), OVERLAP if overlap is None else int(overlap))


def published_suffix(variant: str) -> str:
    """What the papers append to a method's name for the variant: "+" for self-ensemble."""
    return "+" if "self_ensemble" in variant.split("+") else ""
