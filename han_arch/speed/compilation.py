"""`torch.compile` block by block. SR networks repeat one block, and all repetitions share its compiled code."""

from torch import nn


def compile_blocks(net: nn.Module) -> None:
    """Compile each block of `net.body` (HAN, RCAN, EDSR) in place, or the whole network if it has none.

    To compile a deep network as a whole takes many minutes and gains little. The first call compiles one block of each
    kind; the other blocks of its kind reuse the code. Keys of the state dict stay. Another batch or image size is
    compiled again.

    Args:
        net: the network, not wrapped for distributed training.
    """
    body = getattr(net, "body", None)
    blocks = list(body) if isinstance(body, nn.Sequential) and len(body) else [net]
    for block in blocks:
        block.compile(dynamic=False)
