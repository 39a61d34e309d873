"""Networks by Winograd's algorithm: in float32 on a CPU their 3x3 convolutions are nearly twice as fast."""

import copy
import logging
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from han_arch.errors import UserError
from han_arch.speed.winograd import convolution, native
from han_arch.speed.winograd.convolution import CHANNELS, WinogradConv2d

__all__ = ["WinogradConv2d", "use_winograd"]
Network = TypeVar("Network", bound=nn.Module)


def use_winograd(net: nn.Module) -> int:
    """Let the 3x3 convolutions of a network run by Winograd's algorithm where that is faster, in place.

    It is faster in float32 on a CPU, with multiples of 16 channels, except on tiny maps. Under autocast,
    `torch.compile`, `torch.export`, `torch.func` and forward-mode derivatives the convolutions run as before. Weights
    and keys of the state dict stay; copies of the network keep the change. Second derivatives and `torch.jit.script`
    no longer work.

    Args:
        net: any network with `nn.Conv2d` layers.

    Returns:
        The number of convolutions that can run so, including those of an earlier call.

    Raises:
        UserError: there is no C compiler; the network is unchanged.
    """
    convs = [module for module in net.modules() if type(module) is nn.Conv2d and _can_change(module)]
    if convs:
        native.library()
    for conv in convs:
        conv.__class__ = WinogradConv2d
    return sum(isinstance(module, WinogradConv2d) for module in net.modules())


def _can_change(conv: nn.Conv2d) -> bool:
    return (
        (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
        and conv.padding in ((1, 1), "same")
        and conv.padding_mode == "zeros"
        and conv.in_channels % CHANNELS == conv.out_channels % CHANNELS == 0
    )


def use_and_log(nets: Iterable[nn.Module], log: logging.Logger) -> None:
    """Call `use_winograd` on networks of one kind, and log how many convolutions each has; a warning if none."""
    count = min(use_winograd(net) for net in nets)
    level = logging.INFO if count else logging.WARNING
    log.log(level, f"{count} convolutions of the network can run by Winograd's algorithm.")


def winograd_copy(net: Network, name: str, device: str, precision: str) -> Network:
    """Return a copy of a network with `use_winograd`; the name is for messages.

    Raises:
        UserError: the algorithm would have no effect, or there is no C compiler.
    """
    if why := obstacle(device, precision):
        raise UserError(f"winograd {why}; set device cpu and dtype fp32, or drop winograd")
    net = copy.deepcopy(net)
    if not use_winograd(net):
        raise UserError(f"winograd needs multiples of {CHANNELS} channels; no convolution of {name} has them; drop it")
    return net


def obstacle(device: str, precision: str, compiled: bool = False, num_feat: int = CHANNELS) -> str | None:
    """Return what the algorithm needs and does not get, so that it would have no effect; None if nothing."""
    if device != "cpu":
        return f"needs the CPU; got {device}"
    if precision != "fp32":
        return f"needs precision fp32; got {precision}"
    if compiled:
        return "needs blocks that are not compiled; got compile true"
    return f"needs a num_feat that is a multiple of {CHANNELS}; got {num_feat}" if num_feat % CHANNELS else None


def no_compiler() -> str | None:
    """Return why the kernels cannot be compiled here, without running a compiler; None if one is found."""
    try:
        native.find_compiler()
    except UserError as error:
        return str(error)
    return None


def self_test() -> str:
    """Compare with a direct convolution on a small random map; return a line for `basicsr doctor`."""
    x, weight = torch.rand(1, CHANNELS, 9, 50), torch.rand(CHANNELS, CHANNELS, 3, 3)
    try:
        error = float((convolution.conv3x3(x, weight) - F.conv2d(x, weight, padding=1)).abs().max())
    except UserError as missing:
        return f"no Winograd's convolutions (optional): {missing}"
    return (
        "Winograd's convolutions are correct"
        if error < 1e-3
        else "BROKEN Winograd's convolutions are wrong; do not use them"
    )
