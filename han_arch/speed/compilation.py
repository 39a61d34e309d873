"""`torch.compile` block by block: SR networks repeat one block, whose compiled code serves all of its repetitions."""

from torch import nn


def compile_blocks(net: nn.Module) -> None:
    """Compile each block of `net.body` (HAN, RCAN, EDSR), or the whole network if it has none, in place.

    A deep network compiled as a whole takes many minutes and gains little over its blocks: one block of each kind is
    compiled at its first call, the others of its kind reuse the code. Keys of the state dict stay as they are. Sizes
    are static: a call with another batch or image size compiles anew.

    Args:
        net: the network without any wrapper of distributed training.
    """
    body = getattr(net, "body", None)
    blocks = list(body) if isinstance(body, nn.Sequential) and len(body) else [net]
    for block in blocks:
        block.compile(dynamic=False)
