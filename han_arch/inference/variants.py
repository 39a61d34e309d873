"""Inference variants by name: how a network is run over an image. Each changes the result, so results name them."""

from collections.abc import Callable

from torch import Tensor

from han_arch.inference.chop import chop
from han_arch.inference.self_ensemble import self_ensemble

Run = Callable[[Tensor], Tensor]  # (b, channels, h, w) -> (b, channels, scale*h, scale*w)

_PARTS: dict[str, Callable[[Run, int], Run]] = {
    "chop": lambda run, scale: lambda lq: chop(run, lq, scale),
    "self_ensemble": lambda run, scale: lambda lq: self_ensemble(run, lq),
}
# Parts joined by "+" are applied from the left: the self-ensemble of chopped images.
VARIANTS = ("full", "chop", "self_ensemble", "chop+self_ensemble")


def apply(variant: str, run: Run, scale: int) -> Run:
    """The network as the variant runs it.

    Args:
        variant: one of VARIANTS.
        run: the network.
        scale: its scale.

    Raises:
        ValueError: unknown variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"inference must be one of {', '.join(VARIANTS)}; got {variant!r}")
    for part in variant.split("+"):
        if part != "full":
            run = _PARTS[part](run, scale)
    return run
