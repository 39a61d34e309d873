"""What a model costs: multiply-adds, time and peak memory of one image, in turn for all models of a board."""

import contextlib
import ctypes
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.protocol import Protocol

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Cost of one model and variant.

    Attributes:
        parameters: number of weights.
        madds_per_mp: multiply-adds of convolutions and matrix products per output megapixel (1e6 pixels).
        seconds: median time of one LR image of `lr_size` x `lr_size`, uint8 in to uint8 out.
        peak_mb: memory (1e6 bytes) that this image takes above the resting network; nan where the system does not tell.
        lr_size: LR pixels of a side.
    """

    parameters: int
    madds_per_mp: float
    seconds: float
    peak_mb: float
    lr_size: int


def measure(
    models: Sequence[tuple[Contestant, str]], protocol: Protocol, lr_size: int, repeat: int
) -> dict[tuple[str, str], Cost]:
    """Measure all models in turn, so that what else the machine does meets all of them alike.

    Args:
        models: (model, variant).
        protocol: for the scale.
        lr_size: LR pixels of a side.
        repeat: how often each is timed, after one run that warms up.

    Returns:
        (model name, variant) -> cost.
    """
    lq = np.random.default_rng(0).integers(0, 256, (lr_size, lr_size, 3)).astype(np.uint8)
    megapixels = (lr_size * protocol.scale) ** 2 / 1e6
    madds, peaks = {}, {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for model, variant in models:
        key = (model.name, variant)
        with FlopCounterMode(display=False) as counter:
            _once(model, lq, protocol, variant)
        madds[key] = counter.get_total_flops() / 2 / megapixels  # PyTorch counts two for a multiply-add
        peaks[key] = _peak_mb(model, lq, protocol, variant)
        seconds[key] = []
    for _ in range(repeat):
        for model, variant in models:
            start = time.perf_counter()
            _once(model, lq, protocol, variant)  # ends with the image on the CPU, so a GPU is waited for
            seconds[model.name, variant].append(time.perf_counter() - start)
    return {
        (model.name, variant): Cost(
            model.parameters,
            madds[model.name, variant],
            statistics.median(seconds[model.name, variant]),
            peaks[model.name, variant],
            lr_size,
        )
        for model, variant in models
    }


def _once(model: Contestant, lq: np.ndarray, protocol: Protocol, variant: str) -> None:
    with contextlib.suppress(FloatingPointError):  # an output that is told elsewhere costs as much as another
        model.upscale(lq, protocol, variant)


def _peak_mb(model: Contestant, lq: np.ndarray, protocol: Protocol, variant: str) -> float:
    if model.net is not None and next(model.net.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        rest = torch.cuda.memory_allocated()
        _once(model, lq, protocol, variant)
        return (torch.cuda.max_memory_allocated() - rest) / 1e6
    if not _CLEAR.exists():
        return float("nan")
    try:
        ctypes.CDLL(None).malloc_trim(0)  # gives freed memory back, which else would hide what the next run takes
        _CLEAR.write_text("5")  # sets the peak back to what is resident now
    except (OSError, AttributeError):
        return float("nan")
    rest = _kilobytes("VmRSS")
    _once(model, lq, protocol, variant)
    return max(0, _kilobytes("VmHWM") - rest) * 1024 / 1e6


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text("utf-8").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])
