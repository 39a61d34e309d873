"""Engines: networks that are ready to run, here in PyTorch; the choice of the device."""

import copy
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.inference.plan import MemoryCost
from han_arch.inference.strips import each_strip
from han_arch.speed.precision import PRECISIONS
from han_arch.speed.winograd import winograd_copy
from han_arch.zoo.load import load_model

DEVICES = ("auto", "cuda", "xpu", "mps", "cpu")
_LOADING = threading.Lock()  # so that several threads load a model once


class Engine(Protocol):
    """A network that is ready to run. Several threads may use it at once.

    Attributes:
        name: its name for messages and metadata.
        device: the device that it runs on.
        dtype: the precision that it computes in.
        scale: how many times larger its results are.
        channels: channels of its input and result, 1 or 3.
        cost: the memory that it needs.
    """

    name: str
    device: str
    dtype: str
    scale: int
    channels: int
    cost: MemoryCost

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Super-resolve lq, (b, channels, h, w) float32 in [0, 1] on the CPU.

        Yields:
            The first row in the result, and the strip (b, channels, rows, scale*w) that begins there: float32 on the
            CPU, not clamped. Strips come from the top, without gaps.
        """
        ...

    def in_float32(self) -> "Engine | None":
        """Return the same network in float32, for use after an overflow; None when this one is in float32."""
        ...


class TorchEngine:
    """HAN in PyTorch.

    Args:
        net: the network, in float32; it is not changed.
        name, dtype: see `Engine`; dtype is "fp32", "bf16" or "fp16".
        device: a name from `choose_device`.
        winograd: convolve by Winograd's algorithm, see `han_arch.use_winograd`; for fp32 on the CPU.

    Raises:
        UserError: unknown dtype; Winograd's algorithm does not suit device, dtype or network; not 1 or 3 channels.
    """

    def __init__(self, net: HAN, name: str, device: str, dtype: str, winograd: bool = False) -> None:
        if dtype not in PRECISIONS:
            raise UserError(f"dtype must be one of {', '.join(PRECISIONS)}; got {dtype!r}")
        if net.conv_last.out_channels not in (1, 3):
            raise UserError(f"{name} takes {net.conv_last.out_channels} channels; wanted a network of 1 or 3")
        self.name, self.device, self.dtype = name, device, dtype
        self.scale, self.channels, self.cost = net.upscale, net.conv_last.out_channels, MemoryCost.of(net)
        if winograd:
            net = winograd_copy(net, name, device, dtype)
        if next(net.parameters()).device != torch.device(device):
            net = copy.deepcopy(net).to(device)
        self._net = net if dtype == "fp32" else _in_half(net, PRECISIONS[dtype].dtype)
        self._wide = None if dtype == "fp32" else TorchEngine(net, name, device, "fp32")

    @torch.inference_mode()  # of a generator: not while the caller runs between strips
    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """See `Engine`."""
        feat = self._net.features(lq.to(self.device))
        for row, strip in each_strip(self._net, feat, self.cost.strip_pixels):
            yield row, strip.float().cpu()

    def in_float32(self) -> Engine | None:
        """See `Engine`."""
        return self._wide


def _in_half(net: HAN, dtype: torch.dtype) -> HAN:
    """Copy to dtype all but the first and last step, which need more than bfloat16's 8 bits."""
    half = copy.deepcopy(net).to(dtype)
    half.mean = net.mean.clone()
    half.conv_last.float()
    half.conv_first.register_forward_pre_hook(lambda _, args: (args[0].to(dtype),))
    half.conv_last.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    return half


def choose_device(device: str = "auto") -> str:
    """Return the device's name; "auto" becomes the first available of cuda, xpu, mps and cpu.

    Raises:
        UserError: unknown or unavailable device.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    if device == "auto":
        return next(name for name in DEVICES[1:] if _is_available(name))
    if not _is_available(kind):
        available = ", ".join(filter(_is_available, DEVICES[1:]))
        raise UserError(f"device {device} is not available; wanted auto or {available}")
    return device


def _is_available(kind: str) -> bool:
    backend = getattr(torch.backends if kind == "mps" else torch, kind, None)
    return kind == "cpu" or (backend is not None and backend.is_available())


def get_engine(model: "str | Path | HAN", device: str = "auto", dtype: str = "fp32", winograd: bool = False) -> Engine:
    """Return the engine for a model; the four used last stay loaded.

    Args:
        model: a name or path that `han_arch.load_model` takes, or a network.
        device: see `choose_device`; "auto" leaves a network on its own device.
        dtype, winograd: see `TorchEngine`.

    Raises:
        UserError: see `choose_device`, `TorchEngine` and `load_model`; no compiler for Winograd's algorithm.
        FileNotFoundError: see `load_model`.
        TypeError: model is neither a name, a path nor a HAN.
    """
    if isinstance(model, HAN):
        own = str(next(model.parameters()).device)
        device = own if device == "auto" else choose_device(device)
        return TorchEngine(model, type(model).__name__, device, dtype, winograd)
    if isinstance(model, nn.Module) or not isinstance(model, (str, Path)):
        raise TypeError(f"model must be a name, a path or a HAN; got {type(model).__name__}")
    path = Path(model)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    with _LOADING:
        return loaded_engine(model, changed, choose_device(device), dtype, winograd)


@lru_cache(maxsize=4)
def loaded_engine(model: str | Path, changed: int, device: str, dtype: str, winograd: bool) -> Engine:
    """Load a model; a file with another time of change is loaded again."""
    name = Path(model).name if Path(model).is_file() else str(model)
    return TorchEngine(load_model(model), name, device, dtype, winograd)
