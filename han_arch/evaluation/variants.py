"""Inference variants: how a network is run over an image. Each changes the result, so a table names them."""

from collections.abc import Callable

from torch import Tensor

from han_arch.errors import UserError
from han_arch.inference.chop import chop
from han_arch.inference.self_ensemble import self_ensemble

Run = Callable[[Tensor], Tensor]  # (b, channels, h, w) -> (b, channels, scale*h, scale*w)

FULL = "full"
_WRAPPERS: dict[str, Callable[[Run, int], Run]] = {
    "chop": lambda run, scale: lambda lq: chop(run, lq, scale),
    "self_ensemble": lambda run, scale: lambda lq: self_ensemble(run, lq),
}
PARTS = (FULL, *_WRAPPERS)


def check(variant: str) -> None:
    """Check a variant's name: "full", or parts of `PARTS` joined by "+", the innermost first ("chop+self_ensemble").

    Raises:
        UserError: it is none.
    """
    parts = str(variant).split("+")
    if variant != FULL and (len(set(parts)) < len(parts) or not set(parts) <= _WRAPPERS.keys()):
        raise UserError(
            f"variant must be {FULL}, or {', '.join(_WRAPPERS)} or several of these joined by +; got {variant!r}"
        )


def apply(variant: str, run: Run, scale: int) -> Run:
    """The network as the variant runs it.

    Args:
        variant: a name that `check` takes.
        run: the network.
        scale: its scale.
    """
    for part in variant.split("+"):
        if part != FULL:
            run = _WRAPPERS[part](run, scale)
    return run


def published_suffix(variant: str) -> str:
    """What the papers append to a method's name for the variant: "+" for self-ensemble."""
    return "+" if "self_ensemble" in variant.split("+") else ""
