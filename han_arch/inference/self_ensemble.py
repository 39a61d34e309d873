"""Geometric self-ensemble, the "+" of the papers' tables: the mean over the eight flips and transposes."""

from collections.abc import Callable

import torch
from torch import Tensor


def self_ensemble(run: Callable[[Tensor], Tensor], lq: Tensor) -> Tensor:
    """Mean of run's results for the eight orientations of lq, each turned back; nothing is rounded or clamped before.

    Args:
        run: (b, channels, h, w) -> (b, channels, scale*h, scale*w), for any h and w.
        lq: (b, channels, h, w).

    Returns:
        (b, channels, scale*h, scale*w).

    Source: Timofte et al., "Seven Ways to Improve Example-Based Single Image Super Resolution", CVPR 2016, section 3.
    """
    total: Tensor | None = None
    for transposed in (False, True):
        for flipped in ([], [-1], [-2], [-2, -1]):
            turned = torch.flip(lq.transpose(-2, -1) if transposed else lq, flipped)
            back = torch.flip(run(turned), flipped)
            back = back.transpose(-2, -1) if transposed else back
            total = back.clone() if total is None else total.add_(back)  # a stack would hold all eight
    return total.div_(8)  # type: ignore[union-attr]
