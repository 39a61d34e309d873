"""The networks that `basicsr bench` measures, all for the same scale. NETWORKS has one record per network."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn

from han_arch import compat
from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.speed.compilation import compile_blocks
from han_arch.speed.precision import PRECISIONS
from han_arch.speed.winograd import use_winograd
from han_arch.zoo.convert import from_authors

DTYPES = {PRECISIONS[name].long_name: PRECISIONS[name].dtype for name in ("fp32", "bf16")}
CASES = ("inference", "training", "memory")


@dataclass(frozen=True)
class Size:
    """Size of HAN and RCAN; the defaults are the full size. The authors' code needs num_group 10."""

    num_block: int = 20
    num_feat: int = 64
    scale: int = 4
    num_group: int = 10

    @property
    def squeeze_factor(self) -> int:
        """Factor by which channel attention reduces num_feat. It leaves 4 channels, as in the full size (64 / 16)."""
        return self.num_feat // 4


@dataclass(frozen=True)
class BenchNetwork:
    """A network, and how `basicsr bench` measures it."""

    title: str  # name in the tables
    make: Callable[[Size], nn.Module]  # builds it with random weights; raises UserError if a package is missing
    cases: tuple[str, ...] = CASES  # cases in which it is measured
    counted: bool = False  # whether its parameters and multiply-adds are counted
    float32_only: bool = False  # whether it is measured in float32 only
    input_range: float = 1.0  # largest pixel value of its input, 1 or 255
    compiled: bool = False  # whether its blocks are compiled
    keeps_memory: bool = False  # whether freed memory stays in the process in training steps, as in `basicsr train`
    limit: str | None = None  # key of the bare convolutions that it is compared with
    runtime: str | None = None  # name of the runtime for its exported file; None: PyTorch runs it
    channels_last: bool = False  # whether its 4-D weights and its input are stored in channels_last
    winograd: bool = False  # whether it uses Winograd's algorithm; it is then measured in float32 only

    def fits(self, case: str, dtype: str = "float32") -> bool:
        """Return whether the benchmark measures this network for `case`, such as inference or a training step."""
        return case in self.cases and (dtype == "float32" or not (self.float32_only or self.winograd))

    def copy(self, net: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
        """Copy a built network for one measurement. If the network is compiled, compile the copy too."""
        net = copy.deepcopy(net).to(dtype)
        if self.compiled:
            compile_blocks(net)
        return net

    def random_input(self, batch: int, lr_size: int) -> Tensor:
        """Return random LR images: a float32 tensor of shape (batch, 3, lr_size, lr_size)."""
        lq = torch.rand(batch, 3, lr_size, lr_size) * self.input_range
        return lq.contiguous(memory_format=torch.channels_last) if self.channels_last else lq


def build(key: str, size: Size) -> nn.Module:
    """Build the network NETWORKS[key] with a fixed seed. All HANs get the same random weights.

    Raises:
        UserError: a package of the network, or the C compiler for Winograd's algorithm, is missing.
    """
    torch.manual_seed(0)
    network, net = NETWORKS[key], NETWORKS[key].make(size)
    if network.channels_last:
        for parameter in net.parameters():
            if parameter.dim() == 4:  # `net.to(memory_format=...)` fails on the authors' 5-D weight
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    if network.winograd:
        use_winograd(net)
    return net


def build_ours(size: Size) -> HAN:
    """Build our HAN with the weights of `build_authors`. If super-image is missing, use other random weights."""
    net = HAN(3, 3, size.num_feat, size.num_group, size.num_block, size.squeeze_factor, size.scale)
    try:
        weights = build_authors(size).state_dict()
    except UserError:
        _switch_attention_on(net.get_parameter("lam.alpha"), net.get_parameter("csam.beta"))
    else:
        net.load_state_dict(from_authors(weights, "the authors' code").tensors)
    return net.to(memory_format=torch.channels_last)


def build_authors(size: Size) -> nn.Module:
    """Build the authors' network from the PyPI package super-image, with random weights.

    Raises:
        UserError: super-image is not installed.
    """
    try:
        super_image = import_module("super_image")
    except ImportError as error:
        raise UserError(
            f"super-image cannot be imported ({error}); run pip install --no-deps super-image h5py"
        ) from error
    torch.manual_seed(0)
    config = super_image.HanConfig(
        scale=size.scale, n_resblocks=size.num_block, n_feats=size.num_feat, reduction=size.squeeze_factor
    )
    net = super_image.HanModel(config)
    _switch_attention_on(net.la.gamma, net.csa.gamma)
    return net


def _switch_attention_on(alpha: nn.Parameter, beta: nn.Parameter) -> None:
    """Set alpha and beta to other values than 0, because at 0 the attentions would not affect the output."""
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
    """The 3x3 convolutions of a HAN without its other parts. Their time is a lower limit for the time of HAN.

    The input of each convolution is a fixed random feature map in channels_last, of the same size as in HAN.
    """

    def __init__(self, net: HAN) -> None:
        super().__init__()
        convs = {name: m for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
        self.convs = nn.ModuleList(convs.values())
        self.scales = [_scale_at(name, net.upscale) for name in convs]
        self.maps: dict[tuple[int, ...], Tensor] = {}

    def forward(self, lq: Tensor) -> Tensor:
        """Run all convolutions; return a number that depends on all their outputs."""
        total = lq.new_zeros(())
        for conv, scale in self._each():
            total = total + conv(self._map(conv.in_channels, scale, lq))[0, 0, 0, 0]
        return total

    def step(self, lq: Tensor) -> None:
        """Run each convolution forward and backward; compute the gradients with respect to its weights and input."""
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
    """Return (height of the input of a HAN convolution) / (height of the LR image)."""
    if not name.startswith("upsample."):
        return scale if name == "conv_last" else 1
    return 1 if scale == 3 else int(2 ** (int(name.split(".")[1]) // 2))


_SPEED = ("inference", "training")
NETWORKS = {  # keys: the values of `--networks`
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
AUTHORS = NETWORKS["authors"].title  # the table compares all networks with it
LIMITS = {network.title: NETWORKS[network.limit].title for network in NETWORKS.values() if network.limit}
