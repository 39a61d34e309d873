"""What runs a network on a device: an `Engine`; the one for PyTorch, and the choice of device and dtype."""

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

import han_arch
from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.inference.memory import Cost
from han_arch.inference.strips import each_strip
from han_arch.speed.winograd import use_winograd

DEVICES = ("auto", "cuda", "xpu", "mps", "cpu")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_KEPT = 4  # networks that stay loaded


class Engine(Protocol):
    """A network, ready to run. Safe to use from several threads at once."""

    name: str
    device: str
    dtype: str
    scale: int
    channels: int
    cost: Cost

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Super-resolve lq, (b, channels, h, w) float32 in [0, 1] on the CPU.

        Yields:
            The first row in the result, and the strip (b, channels, rows, scale*w) that begins there, float32 on the
            CPU, not clamped; from the top, without gaps.
        """
        ...

    def in_float32(self) -> "Engine | None":
        """The same network in float32, for what overflowed; None when this is it."""
        ...


class TorchEngine:
    """HAN in PyTorch.

    Args:
        net: the network, in float32; it is not changed.
        name: what messages and metadata call it.
        device: one that `choose_device` gives.
        dtype: "fp32", "bf16" or "fp16".
        winograd: convolve by Winograd's algorithm, see `han_arch.use_winograd`; for fp32 on the CPU.
    """

    def __init__(self, net: HAN, name: str, device: str, dtype: str, winograd: bool = False) -> None:
        if dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
        if winograd and (device, dtype) != ("cpu", "fp32"):
            raise UserError(f"winograd is for device cpu and dtype fp32; got {device} and {dtype}; name those, or none")
        if net.conv_last.out_channels not in (1, 3):
            raise UserError(f"{name} takes {net.conv_last.out_channels} channels; wanted a network for images, 1 or 3")
        self.name, self.device, self.dtype = name, device, dtype
        self.scale, self.channels, self.cost = net.upscale, net.conv_last.out_channels, Cost.of(net)
        if next(net.parameters()).device != torch.device(device):
            net = copy.deepcopy(net).to(device)
        if winograd:
            net = copy.deepcopy(net)
            if not use_winograd(net):
                raise UserError(f"winograd is for channels in sixteens, which no convolution of {name} has; do without")
        self._net = net if dtype == "fp32" else _in_half(net, DTYPES[dtype])
        self._wide = None if dtype == "fp32" else TorchEngine(net, name, device, "fp32")

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """See `Engine`."""
        with torch.inference_mode():
            feat = self._net.features(lq.to(self.device))
            strips = each_strip(self._net, feat, self.cost.strip_pixels)
        del lq, feat
        while True:
            with torch.inference_mode():  # never while the caller has its turn
                row, strip = next(strips, (-1, None))
                if strip is None:
                    return
                strip = strip.float().cpu()
            yield row, strip

    def in_float32(self) -> Engine | None:
        """See `Engine`."""
        return self._wide


def _in_half(net: HAN, dtype: torch.dtype) -> HAN:
    """A copy in dtype, but for its ends: bfloat16's 8 bits are too few for an image's first and last step."""
    half = copy.deepcopy(net).to(dtype)
    half.mean = net.mean.clone()
    half.conv_last.float()
    half.conv_first.register_forward_pre_hook(lambda _, args: (args[0].to(dtype),))
    half.conv_last.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    return half


def choose_device(device: str = "auto") -> str:
    """The device's name; "auto" is the first of cuda, xpu, mps and cpu that is there.

    Raises:
        UserError: unknown, or not there.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")
    if device == "auto":
        return next(name for name in DEVICES[1:] if _is_there(name))
    if not _is_there(kind):
        raise UserError(f"device {device} is not there; wanted auto or {', '.join(filter(_is_there, DEVICES[1:]))}")
    return device


def _is_there(kind: str) -> bool:
    if kind == "cpu":
        return True
    backend = getattr(torch.backends, "mps", None) if kind == "mps" else getattr(torch, kind, None)
    return backend is not None and backend.is_available()


def get_engine(model: "str | Path | HAN", device: str = "auto", dtype: str = "fp32", winograd: bool = False) -> Engine:
    """The engine for a model; the last few that were loaded are kept.

    Args:
        model: a name or path that `han_arch.load_model` takes, or a network.
        device: see `choose_device`; a network runs where it is unless told otherwise.
        dtype: "fp32", "bf16" or "fp16".
        winograd: see `TorchEngine`.

    Raises:
        UserError: no such device or dtype; Winograd's algorithm is not for them, or has no compiler; load_model's own.
        FileNotFoundError: load_model's own.
        TypeError: model is something else.
    """
    if isinstance(model, HAN):
        own = str(next(model.parameters()).device)
        device = own if device == "auto" else choose_device(device)
        return TorchEngine(model, type(model).__name__, device, dtype, winograd)
    if isinstance(model, nn.Module) or not isinstance(model, (str, Path)):
        raise TypeError(f"model must be a name, a path or a HAN; got {type(model).__name__}")
    return _KEPT_ENGINES.get(model, choose_device(device), dtype, winograd)


class _Kept:
    """The engines that were used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engines: OrderedDict[tuple[str, int, str, str, bool], Engine] = OrderedDict()

    def get(self, model: str | Path, device: str, dtype: str, winograd: bool) -> Engine:
        path = Path(model)
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        key = (str(model), changed, device, dtype, winograd)
        with self._lock:
            if key not in self._engines:
                name = path.name if path.is_file() else str(model)
                self._engines[key] = TorchEngine(han_arch.load_model(model), name, device, dtype, winograd)
            self._engines.move_to_end(key)
            while len(self._engines) > _KEPT:
                self._engines.popitem(last=False)
            return self._engines[key]


_KEPT_ENGINES = _Kept()
