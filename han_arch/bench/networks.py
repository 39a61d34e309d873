"""The networks that are measured, all built for the same scale; those that cannot be built say why."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch import compat
from han_arch.archs.han_arch import DIV2K_RGB_MEAN, HAN
from han_arch.errors import UserError
from han_arch.inference.strips import super_resolve
from han_arch.speed.compilation import compile_blocks
from han_arch.speed.winograd import WinogradConv2d, use_winograd
from han_arch.speed.winograd.convolution import conv3x3
from han_arch.zoo.convert import from_authors

OURS = "HAN (ours)"
OURS_COMPILED = "HAN (ours), compiled"
OURS_WINOGRAD = "HAN (ours), Winograd"
AUTHORS = "HAN (authors' code)"
AUTHORS_CHANNELS_LAST = "HAN (authors' code), channels_last"
AUTHORS_MEMORY_KEPT = "HAN (authors' code), freed memory kept"
RCAN_NAME = "RCAN (BasicSR)"
RCAN_CHANNELS_LAST = "RCAN (BasicSR), channels_last"
EDSR_NAME = "EDSR (BasicSR)"
ONNX_NAME = "HAN (ours), ONNX Runtime"
OPENVINO_NAME = "HAN (ours), OpenVINO"
RUNTIME_NAMES = {ONNX_NAME: "onnx", OPENVINO_NAME: "openvino"}
LIMIT = "bare convolutions of HAN"
LIMIT_WINOGRAD = "bare convolutions of HAN, Winograd"
LIMITS = {OURS: LIMIT, OURS_COMPILED: LIMIT, OURS_WINOGRAD: LIMIT_WINOGRAD}


@dataclass(frozen=True)
class Size:
    """Size of HAN and RCAN; the full size is the default. HAN has 10 groups, as the authors' code fixes it."""

    num_block: int = 20
    num_feat: int = 64
    scale: int = 4
    num_group: int = 10

    @property
    def squeeze_factor(self) -> int:
        """The factor that leaves 4 channels, as 16 does of 64."""
        return self.num_feat // 4


@dataclass(frozen=True)
class Candidate:
    """A network to measure: `net` maps `input_range * [0, 1]` images; inference may have a form of its own.

    A `compiled` one is compiled after it was copied, since copies are not. One that `keeps_memory` trains as under
    `basicsr train` on a CPU: what is freed stays in the process (see allocator.py). One of `training_only` or
    `float32_only` differs from another in nothing else.
    """

    name: str
    net: nn.Module
    input_range: float = 1.0
    infer: Callable[[Tensor], Tensor] | None = None
    compiled: bool = False
    keeps_memory: bool = False
    training_only: bool = False
    float32_only: bool = False

    def copy(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """A network of its own for one measurement."""
        net = copy.deepcopy(self.net).to(dtype)
        if self.compiled:
            compile_blocks(net)
        return net


def build(name: str, size: Size) -> Candidate:
    """Build a network by name, with random weights from a fixed seed; HAN's are the same in both codes.

    Raises:
        UserError: the package that it comes from, or a C compiler that it needs, is not installed.
    """
    torch.manual_seed(0)
    if name in (OURS, OURS_WINOGRAD):
        han = build_ours(size)
        if name == OURS_WINOGRAD:
            use_winograd(han)
        infer = partial(super_resolve, han)
        return Candidate(name, han, infer=infer, keeps_memory=True, float32_only=name == OURS_WINOGRAD)
    if name == OURS_COMPILED:
        return Candidate(name, build_ours(size), compiled=True, keeps_memory=True)
    if name == AUTHORS:
        return Candidate(name, build_authors(size), input_range=255.0)
    if name == AUTHORS_CHANNELS_LAST:
        return Candidate(name, InChannelsLast(build_authors(size)), input_range=255.0)
    if name == AUTHORS_MEMORY_KEPT:
        return Candidate(name, build_authors(size), input_range=255.0, keeps_memory=True, training_only=True)
    if name in (LIMIT, LIMIT_WINOGRAD):
        han = build_ours(size)
        if name == LIMIT_WINOGRAD:
            use_winograd(han)
        return Candidate(name, BareConvolutions(han), keeps_memory=True, float32_only=name == LIMIT_WINOGRAD)
    compat.require_basicsr()
    from basicsr.archs.edsr_arch import EDSR
    from basicsr.archs.rcan_arch import RCAN

    if name == EDSR_NAME:
        full = size.num_feat == 64
        net = EDSR(3, 3, 256 if full else 16, 32 if full else 2, size.scale, res_scale=0.1)
    else:
        net = RCAN(3, 3, size.num_feat, size.num_group, size.num_block, size.squeeze_factor, size.scale)
    return Candidate(name, InChannelsLast(net) if name == RCAN_CHANNELS_LAST else net)


def build_ours(size: Size) -> HAN:
    """Our HAN with the weights of `build_authors`, where that can be built."""
    net = HAN(3, 3, size.num_feat, size.num_group, size.num_block, size.squeeze_factor, size.scale)
    try:
        weights = build_authors(size).state_dict()
    except UserError:
        parameters = dict(net.named_parameters())
        _switch_attention_on(parameters["lam.alpha"], parameters["csam.beta"])
    else:
        net.load_state_dict(from_authors(weights, DIV2K_RGB_MEAN, AUTHORS).tensors)
    return net.to(memory_format=torch.channels_last)


def build_authors(size: Size) -> nn.Module:
    """The authors' network as PyPI's super-image has it, with random weights.

    Raises:
        UserError: super-image is not installed.
    """
    try:
        super_image = import_module("super_image")
    except ImportError as error:
        raise UserError(
            f"super-image cannot be imported ({error}); pip install --no-deps super-image, and h5py"
        ) from error
    torch.manual_seed(0)
    config = super_image.HanConfig(
        scale=size.scale, n_resblocks=size.num_block, n_feats=size.num_feat, reduction=size.squeeze_factor
    )
    net = super_image.HanModel(config)
    _switch_attention_on(net.la.gamma, net.csa.gamma)
    return net


def _switch_attention_on(alpha: nn.Parameter, beta: nn.Parameter) -> None:
    """At their start, 0, the attentions would not show in a comparison of results."""
    with torch.no_grad():
        alpha.fill_(0.3)
        beta.fill_(-0.2)


class InChannelsLast(nn.Module):
    """A network whose 4-D weights and input are in channels_last, and nothing else is changed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        with torch.no_grad():
            for parameter in net.parameters():
                if parameter.dim() == 4:  # HAN's 5-D weight stops `net.to(memory_format=...)`
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, lq: Tensor) -> Tensor:
        """Run the network."""
        return self.net(lq.contiguous(memory_format=torch.channels_last))


class BareConvolutions(nn.Module):
    """Every 3x3 convolution of a HAN on a map of its size, in channels_last, and nothing else: the limit of its speed.

    Each runs on a constant map, so that no step between two of them is counted, and as it does in the network, directly
    or by Winograd's algorithm.
    """

    def __init__(self, net: HAN) -> None:
        super().__init__()
        named = {
            name: module
            for name, module in net.named_modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        }
        stage_scale = 3 if net.upscale == 3 else 2
        self.scales = [_scale_at(name, net.upscale, stage_scale) for name in named]
        self.in_winograd = [isinstance(conv, WinogradConv2d) for conv in named.values()]
        self.weights = nn.ParameterList(conv.weight for conv in named.values())
        self.biases = nn.ParameterList(conv.bias for conv in named.values())
        self.maps: dict[tuple[int, ...], Tensor] = {}

    def forward(self, lq: Tensor) -> Tensor:
        """Run all convolutions; returns a number that depends on each."""
        total = lq.new_zeros(())
        for weight, bias, scale, in_winograd in self._each():
            total = total + _convolve(self._map(weight.shape[1], scale, lq), weight, bias, in_winograd)[0, 0, 0, 0]
        return total

    def step(self, lq: Tensor) -> None:
        """Forward and backward through each convolution, to weights and input."""
        for weight, bias, scale, in_winograd in self._each():
            x = self._map(weight.shape[1], scale, lq).detach().requires_grad_()
            _convolve(x, weight, bias, in_winograd).backward(self._map(weight.shape[0], scale, lq))

    def _each(self) -> Iterator[tuple[Tensor, Tensor, int, bool]]:
        return zip(self.weights, self.biases, self.scales, self.in_winograd, strict=True)

    def _map(self, channels: int, scale: int, lq: Tensor) -> Tensor:
        b, _, h, w = lq.shape
        shape = (b, channels, scale * h, scale * w)
        if shape not in self.maps or self.maps[shape].dtype != lq.dtype:
            self.maps[shape] = torch.rand(shape, dtype=lq.dtype).contiguous(memory_format=torch.channels_last)
        return self.maps[shape]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, in_winograd: bool) -> Tensor:
    return conv3x3(x, weight, bias) if in_winograd else F.conv2d(x, weight, bias, padding=1)


def _scale_at(name: str, scale: int, stage_scale: int) -> int:
    if name == "conv_last":
        return scale
    if name.startswith("upsample."):
        return int(stage_scale ** (int(name.split(".")[1]) // 2))
    return 1
