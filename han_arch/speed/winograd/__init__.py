"""Make the 3x3 convolutions of a network nearly twice as fast by Winograd's algorithm, in float32 on a CPU."""

import copy
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
    """Change a network in place: its 3x3 convolutions use Winograd's algorithm wherever that is faster.

    The algorithm needs float32, a CPU, and multiples of 16 channels at input and output. The convolutions use torch's
    normal algorithm in these cases: tiny maps, autocast, `torch.compile`, `torch.export`, `torch.jit.trace`,
    `torch.func`, and forward-mode derivatives. Weights and state-dict keys stay the same. Copies of the network keep
    the change. Second derivatives and `torch.jit.script` no longer work.

    Returns:
        The number of convolutions that can use the algorithm, including those that an earlier call changed.

    Raises:
        UserError: there is no working C compiler. The network stays unchanged.
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


def winograd_copy(net: Network, name: str, device: str, precision: str) -> Network:
    """Return a copy of a network that uses Winograd's algorithm (see `use_winograd`).

    `name` is the network's name in messages. The copy will run on `device` in `precision`.

    Raises:
        UserError: the algorithm does not support the device, the precision or the network; or no C compiler works.
    """
    if why := obstacle(device, precision):
        raise UserError(f"Winograd's algorithm {why}; set device cpu and dtype fp32, or turn Winograd off")
    net = copy.deepcopy(net)
    if not use_winograd(net):
        raise UserError(
            f"Winograd's algorithm needs 3x3 convolutions with multiples of {CHANNELS} channels, "
            f"but {name} has none; turn Winograd off"
        )
    return net


def obstacle(device: str, precision: str, compiled: bool = False, num_feat: int = CHANNELS) -> str | None:
    """Return why Winograd's algorithm cannot run, such as "needs the CPU; the device is cuda"; None if it can."""
    if device != "cpu":
        return f"needs the CPU; the device is {device}"
    if precision != "fp32":
        return f"needs precision fp32; got {precision}"
    if compiled:
        return "cannot run inside compiled blocks; got compile true"
    return f"needs a num_feat that is a multiple of {CHANNELS}; got {num_feat}" if num_feat % CHANNELS else None


def no_compiler() -> str | None:
    """Return the reason why no C compiler was found; None if there is one. The compiler is not run."""
    try:
        native.find_compiler()
    except UserError as error:
        return str(error)
    return None


def self_test() -> str:
    """Compare Winograd's convolution with PyTorch's on a small random map; return a line for `basicsr doctor`."""
    x, weight = torch.rand(1, CHANNELS, 9, 50), torch.rand(CHANNELS, CHANNELS, 3, 3)
    try:
        error = float((convolution.conv3x3(x, weight) - F.conv2d(x, weight, padding=1)).abs().max())
    except UserError as missing:
        return f"Winograd's algorithm is not available (optional): {missing}"
    if error < 1e-3:
        return "Winograd's convolutions are correct"
    return "BROKEN Winograd's convolutions give wrong values; do not use the option winograd"
