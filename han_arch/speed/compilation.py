"""Compile a network block by block. SR networks repeat one block, and all its copies share the compiled code."""

from torch import nn


def compile_blocks(net: nn.Module) -> None:
    """Compile each block of `net.body` (HAN, RCAN, EDSR) in place. Without a `body`, compile the network as one piece.

    Call this before the network is wrapped for distributed training. The first forward pass compiles one block of each
    type; the other blocks of that type reuse its code. A new batch or image size needs a new compilation. State-dict
    keys stay the same.
    """
    body = getattr(net, "body", None)
    blocks = list(body) if isinstance(body, nn.Sequential) and len(body) else [net]
    for block in blocks:
        block.compile(dynamic=False)
