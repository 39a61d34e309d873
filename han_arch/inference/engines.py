"""Load networks as engines, and choose the device. An engine is a network that is ready to run on its device."""

import copy
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.inference.plan import MemoryCost
from han_arch.inference.strips import each_strip
from han_arch.speed.precision import PRECISIONS
from han_arch.speed.winograd import winograd_copy
from han_arch.zoo.load import load_model

_BACKENDS = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps, "cpu": torch.cpu}
DEVICES = ("auto", *_BACKENDS)
_LOADING = threading.Lock()  # makes several threads load the same model only once


class Engine(Protocol):
    """A network that is ready to run. Several threads may use it at the same time.

    `name` appears in messages and metadata. `dtype` is "fp32", "bf16" or "fp16". `channels`, 1 or 3, is the number of
    channels of both the input and the output. `cost` tells `plan.choose` how much memory the network needs.
    """

    name: str
    device: str
    dtype: str
    scale: int
    channels: int
    cost: MemoryCost

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Super-resolve images. Yield the output in horizontal strips, from top to bottom and without gaps.

        lq contains LR images, (b, channels, h, w), float32 in [0, 1], on the CPU. The function yields pairs (row,
        strip). The strip is a part of the output, (b, channels, rows, scale*w), float32 on the CPU; its values are
        not clamped. The row is the index of the strip's first row in the output.
        """

    def in_float32(self) -> "Engine | None":
        """Return an engine that runs the same network in float32; None if this engine runs in float32 already."""


class TorchEngine:
    """An engine that runs a HAN network in PyTorch.

    The network must be in float32; the engine does not change it. `name` appears in messages and metadata. `dtype` is
    "fp32", "bf16" or "fp16". `winograd` says whether to use Winograd's algorithm for convolutions. The algorithm works
    only with fp32 on the CPU; see `han_arch.use_winograd`.

    Raises:
        UserError: dtype is unknown; the number of channels is not 1 or 3; or Winograd's algorithm does not work with
            this device, dtype or network.
    """

    def __init__(self, net: HAN, name: str, device: str, dtype: str, winograd: bool = False) -> None:
        if dtype not in PRECISIONS:
            raise UserError(f"dtype must be one of {', '.join(PRECISIONS)}; got {dtype!r}")
        if net.conv_last.out_channels not in (1, 3):
            raise UserError(f"{name} takes {net.conv_last.out_channels} channels; use a network with 1 or 3 channels")
        self.name, self.device, self.dtype = name, device, dtype
        self.scale, self.channels, self.cost = net.upscale, net.conv_last.out_channels, MemoryCost.of(net)
        if winograd:
            net = winograd_copy(net, name, device, dtype)
        if next(net.parameters()).device != torch.device(device):
            net = copy.deepcopy(net).to(device)
        self._net = net if dtype == "fp32" else _in_half(net, PRECISIONS[dtype].dtype)
        self._wide = None if dtype == "fp32" else TorchEngine(net, name, device, "fp32")

    @torch.inference_mode()  # active only inside this generator, not in the caller between two strips
    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Super-resolve images in strips; see `Engine.strips`."""
        feat = self._net.features(lq.to(self.device))
        for row, strip in each_strip(self._net, feat, self.cost.strip_pixels):
            yield row, strip.float().cpu()

    def in_float32(self) -> Engine | None:
        """Return an engine for the same network in float32; see `Engine.in_float32`."""
        return self._wide


def _in_half(net: HAN, dtype: torch.dtype) -> HAN:
    """Copy a network to half precision. For better precision, the pixel mean and conv_last stay in float32."""
    half = copy.deepcopy(net).to(dtype)
    half.mean = net.mean.clone()
    half.conv_last.float()
    half.conv_first.register_forward_pre_hook(lambda _, args: (args[0].to(dtype),))
    half.conv_last.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    return half


def choose_device(device: str = "auto") -> str:
    """Check a device name and return it. "auto" selects the first available of cuda, xpu, mps and cpu.

    Raises:
        UserError: the device is unknown or not available.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    available = [name for name, backend in _BACKENDS.items() if backend.is_available()]
    if device == "auto":
        return available[0]
    if kind not in available:
        raise UserError(f"device {device} is not available; use auto or {', '.join(available)}")
    return device


def get_engine(model: "str | Path | HAN", device: str = "auto", dtype: str = "fp32", winograd: bool = False) -> Engine:
    """Return the engine for a model. The four most recently used engines of named models or files stay in memory.

    Args:
        model: name or path of a model for `han_arch.load_model`, or a HAN network.
        device: name of the device, see `choose_device`. With "auto", a HAN network stays on its current device.
        dtype: "fp32", "bf16" or "fp16".
        winograd: whether to use Winograd's algorithm for convolutions, see `han_arch.use_winograd`.

    Raises:
        UserError: the model cannot be loaded; dtype is unknown; device is unknown or not available; or Winograd's
            algorithm does not work, for example because there is no C compiler.
        FileNotFoundError: the model file does not exist.
        TypeError: model is not a name, a path or a HAN network.
    """
    if isinstance(model, HAN):
        own = str(next(model.parameters()).device)
        device = own if device == "auto" else choose_device(device)
        return TorchEngine(model, type(model).__name__, device, dtype, winograd)
    if not isinstance(model, (str, Path)):
        raise TypeError(f"model must be a name, a path or a HAN network; got {type(model).__name__}")
    path = Path(model)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    with _LOADING:
        return loaded_engine(model, changed, choose_device(device), dtype, winograd)


@lru_cache(maxsize=4)
def loaded_engine(model: str | Path, changed: int, device: str, dtype: str, winograd: bool) -> Engine:
    """Return a model's engine from the cache, or load the model. `changed` is the file's modification time."""
    name = Path(model).name if Path(model).is_file() else str(model)
    return TorchEngine(load_model(model), name, device, dtype, winograd)
