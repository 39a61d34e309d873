"""The networks that `basicsr bench` measures, all for the same scale: one record each in NETWORKS."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from han_arch import compat
from han_arch.archs.han_arch import DIV2K_RGB_MEAN, HAN
from han_arch.errors import UserError
from han_arch.speed.compilation import compile_blocks
from han_arch.speed.precision import PRECISIONS
from han_arch.speed.winograd import use_winograd
from han_arch.zoo.convert import from_authors

DTYPES = {PRECISIONS[name].long_name: PRECISIONS[name].dtype for name in ("fp32", "bf16")}
CASES = ("inference", "training", "memory")


@dataclass(frozen=True)
class Size:
    """The size of HAN and RCAN; full size by default. HAN has 10 groups, as the authors' code has."""

    num_block: int = 20
    num_feat: int = 64
    scale: int = 4
    num_group: int = 10

    @property
    def squeeze_factor(self) -> int:
        """The factor that leaves 4 channels, as 16 leaves 4 of 64."""
        return self.num_feat // 4


@dataclass(frozen=True)
class BenchNetwork:
    """A network and how it is measured.

    Attributes:
        title: its name in the tables.
        make: builds it with random weights; raises UserError if a package or a compiler is missing.
        cases: the cases it is measured in.
        counted: count its parameters and multiply-adds.
        float32_only: measure it in float32 only.
        input_range: its input is an image in [0, 1] times this number.
        compiled: compile its blocks.
        keeps_memory: train as `basicsr train` does on a CPU, with freed memory kept in the process (speed/memory.py).
        limit: key of the bare convolutions to compare it with.
        runtime: the runtime that runs it as an exported file; None is PyTorch.
        channels_last: keep its 4-D weights and its input in channels_last.
        winograd: convolve by Winograd's algorithm, so measure it in float32 only.
    """

    title: str
    make: Callable[[Size], nn.Module]
    cases: tuple[str, ...] = CASES
    counted: bool = False
    float32_only: bool = False
    input_range: float = 1.0
    compiled: bool = False
    keeps_memory: bool = False
    limit: str | None = None
    runtime: str | None = None
    channels_last: bool = False
    winograd: bool = False

    def fits(self, case: str, dtype: str = "float32") -> bool:
        """Return whether the network is measured in this case and dtype."""
        return case in self.cases and (dtype == "float32" or not (self.float32_only or self.winograd))

    def copy(self, net: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Copy a built network for one measurement. Copies lose their compiled code, so they are compiled here."""
        net = copy.deepcopy(net).to(dtype)
        if self.compiled:
            compile_blocks(net)
        return net

    def random_input(self, batch: int, lr_size: int) -> Tensor:
        """Return random LR images, (batch, 3, lr_size, lr_size) in float32."""
        lq = torch.rand(batch, 3, lr_size, lr_size) * self.input_range
        return lq.contiguous(memory_format=torch.channels_last) if self.channels_last else lq


def build(key: str, size: Size) -> nn.Module:
    """Build a network of NETWORKS with random weights from a fixed seed; all HANs get the same weights.

    Raises:
        UserError: the network's package, or a C compiler that it needs, is missing.
    """
    torch.manual_seed(0)
    network, net = NETWORKS[key], NETWORKS[key].make(size)
    if network.channels_last:
        for parameter in net.parameters():
            if parameter.dim() == 4:  # the authors' 5-D weight stops `net.to(memory_format=...)`
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if network.winograd:
        use_winograd(net)
    return net


def build_ours(size: Size) -> HAN:
    """Build our HAN, with the weights of `build_authors` if that can be built."""
    net = HAN(3, 3, size.num_feat, size.num_group, size.num_block, size.squeeze_factor, size.scale)
    try:
        weights = build_authors(size).state_dict()
    except UserError:
        _switch_attention_on(net.get_parameter("lam.alpha"), net.get_parameter("csam.beta"))
    else:
        net.load_state_dict(from_authors(weights, DIV2K_RGB_MEAN, "the authors' code").tensors)
    return net.to(memory_format=torch.channels_last)


def build_authors(size: Size) -> nn.Module:
    """Build the authors' network from PyPI's super-image, with random weights.

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
    """Set the attentions' factors. At 0, their start, a comparison of results would not see the attentions."""
    with torch.no_grad():
        alpha.fill_(0.3)
        beta.fill_(-0.2)


def _build_rcan(size: Size) -> nn.Module:
    compat.require_basicsr()
    from basicsr.archs.rcan_arch import RCAN

    return RCAN(3, 3, size.num_feat, size.num_group, size.num_block, size.squeeze_factor, size.scale)


def _build_edsr(size: Size) -> nn.Module:
    compat.require_basicsr()
    from basicsr.archs.edsr_arch import EDSR

    num_feat, num_block = (256, 32) if size.num_feat == 64 else (16, 2)
    return EDSR(3, 3, num_feat, num_block, size.scale, res_scale=0.1)


def _build_limit(size: Size) -> "BareConvolutions":
    return BareConvolutions(build_ours(size))


class BareConvolutions(nn.Module):
    """The 3x3 convolutions of a HAN and nothing else: the limit of its speed.

    Each runs on a constant map of its size in channels_last.
    """

    def __init__(self, net: HAN) -> None:
        super().__init__()
        convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
        self.convs = nn.ModuleList(convs.values())
        self.scales = [_scale_at(name, net.upscale) for name in convs]
        self.maps: dict[tuple[int, ...], Tensor] = {}

    def forward(self, lq: Tensor) -> Tensor:
        """Run all convolutions; return a number that depends on each."""
        total = lq.new_zeros(())
        for conv, scale in self._each():
            total = total + conv(self._map(conv.in_channels, scale, lq))[0, 0, 0, 0]
        return total

    def step(self, lq: Tensor) -> None:
        """Run each convolution forward and backward, with gradients of its weights and its input."""
        for conv, scale in self._each():
            x = self._map(conv.in_channels, scale, lq).detach().requires_grad_()
            conv(x).backward(self._map(conv.out_channels, scale, lq))
        self.zero_grad(set_to_none=True)

    def _each(self) -> Iterator[tuple[nn.Conv2d, int]]:
        return zip(cast(Iterable[nn.Conv2d], self.convs), self.scales, strict=True)

    def _map(self, channels: int, scale: int, lq: Tensor) -> Tensor:
        shape = (lq.shape[0], channels, scale * lq.shape[2], scale * lq.shape[3])
        if shape not in self.maps or self.maps[shape].dtype != lq.dtype:
            self.maps[shape] = torch.rand(shape, dtype=lq.dtype).contiguous(memory_format=torch.channels_last)
        return self.maps[shape]


def _scale_at(name: str, scale: int) -> int:
    """Return how many times larger than LR the map of a convolution of HAN is."""
    if not name.startswith("upsample."):
        return scale if name == "conv_last" else 1
    return 1 if scale == 3 else int(2 ** (int(name.split(".")[1]) // 2))


_SPEED = ("inference", "training")
NETWORKS = {  # by the names of `--networks`
    "ours": BenchNetwork("HAN (ours)", build_ours, counted=True, keeps_memory=True, limit="limit"),
    "ours-compiled": BenchNetwork(
        "HAN (ours), compiled", build_ours, _SPEED, compiled=True, keeps_memory=True, limit="limit"),
    "ours-winograd": BenchNetwork(
        "HAN (ours), Winograd", build_ours, winograd=True, keeps_memory=True, limit="limit-winograd"),
    "authors": BenchNetwork("HAN (authors' code)", build_authors, counted=True, input_range=255.0),
    "authors-channels-last": BenchNetwork(
        "HAN (authors' code), channels_last", build_authors, input_range=255.0, channels_last=True),
    "authors-memory-kept": BenchNetwork(
        "HAN (authors' code), freed memory kept", build_authors, ("training",), input_range=255.0, keeps_memory=True),
    "onnx": BenchNetwork("HAN (ours), ONNX Runtime", build_ours, ("inference",), float32_only=True, runtime="onnx"),
    "openvino": BenchNetwork("HAN (ours), OpenVINO", build_ours, ("inference",), runtime="openvino"),
    "limit": BenchNetwork("bare convolutions of HAN", _build_limit, _SPEED, keeps_memory=True),
    "limit-winograd": BenchNetwork(
        "bare convolutions of HAN, Winograd", _build_limit, _SPEED, winograd=True, keeps_memory=True),
    "rcan": BenchNetwork("RCAN (BasicSR)", _build_rcan, counted=True),
    "rcan-channels-last": BenchNetwork("RCAN (BasicSR), channels_last", _build_rcan, channels_last=True),
    "edsr": BenchNetwork("EDSR (BasicSR)", _build_edsr, counted=True),
}  # fmt: skip
AUTHORS = NETWORKS["authors"].title  # other networks are compared with it
LIMITS = {network.title: NETWORKS[network.limit].title for network in NETWORKS.values() if network.limit}
