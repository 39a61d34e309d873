"""Measure the multiply-adds, time and peak memory of contestants, and describe the conditions of measurements."""

import contextlib
import ctypes
import datetime
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from han_arch.evaluation.contestants import Contestant
from han_arch.evaluation.protocol import Protocol
from han_arch.speed.memory import added_at_peak
from han_arch.version import __version__, commit


@dataclass(frozen=True)
class Cost:
    """The cost of one contestant in one inference variant."""

    parameters: int
    madds_per_mp: float  # multiply-adds per output megapixel (1e6 pixels), in convolutions and matrix products
    seconds: float  # median time to upscale one LR image, from uint8 input to uint8 output; nan if the network fails
    peak_mb: float  # peak memory while upscaling minus the memory in use before, in 1e6 bytes; nan if unknown
    lr_size: int  # height and width of the LR image in pixels


def measure(
    runs: Sequence[tuple[Contestant, str]], protocol: Protocol, lr_size: int, repeat: int
) -> dict[tuple[str, str], Cost]:
    """Measure the costs of contestants. The contestants take turns, so that other programs slow all of them equally.

    Args:
        runs: pairs of a contestant and a variant to measure. The values of a network that raises are nan.
        protocol: the protocol, which sets the scale.
        lr_size: side of the square LR image in pixels.
        repeat: number of timed runs for each pair, after some runs that are not timed.

    Returns:
        Mapping from (contestant's name, variant) to cost.
    """
    lq = np.random.default_rng(0).integers(0, 256, (lr_size, lr_size, 3)).astype(np.uint8)
    megapixels = (lr_size * protocol.scale) ** 2 / 1e6
    costs, upscalings = {}, {}
    for contestant, variant in runs:
        upscale = partial(_upscale, contestant, lq, protocol, variant)
        madds = peak_mb = math.nan
        with contextlib.suppress(Exception):  # the scores report the error; networks may raise any exception
            with FlopCounterMode(display=False) as counter:
                upscale()
            peak_mb = _measure_peak_mb(upscale, contestant.net)
            madds = counter.get_total_flops() / 2 / megapixels  # PyTorch counts a multiply-add as two operations
            upscalings[contestant.name, variant] = upscale
        costs[contestant.name, variant] = Cost(contestant.parameters, madds, math.nan, peak_mb, lr_size)
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in costs}
    for _ in range(repeat):
        for key, upscale in upscalings.items():
            start = time.perf_counter()
            with contextlib.suppress(Exception):
                upscale()  # includes waiting for the GPU, because the result is copied to the CPU
                seconds[key].append(time.perf_counter() - start)
    return {
        key: replace(cost, seconds=statistics.median(seconds[key])) if seconds[key] else cost
        for key, cost in costs.items()
    }


def _upscale(contestant: Contestant, lq: np.ndarray, protocol: Protocol, variant: str) -> None:
    # If the output has nan or inf, the scores report it, and the cost is the same.
    with contextlib.suppress(FloatingPointError):
        contestant.upscale(lq, protocol, variant)


def _measure_peak_mb(run: Callable[[], None], net: nn.Module | None) -> float:
    if net is not None and next(net.parameters()).is_cuda:
        torch.cuda.reset_peak_memory_stats()
        idle = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - idle) / 1e6
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system, because reused memory is not counted
    except (OSError, AttributeError):
        return math.nan
    added = added_at_peak(run)
    return math.nan if added is None else max(0, added) / 1e6


def describe_conditions(device: torch.device) -> dict[str, str]:
    """Return the conditions of a measurement under the keys "date", "commit", "command", "device" and "versions"."""
    gpu = device.type == "cuda"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "command": shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]),
        "device": torch.cuda.get_device_name(device) if gpu else f"{cpu_name()}, {torch.get_num_threads()} threads",
        "versions": f"han_arch {__version__}, torch {torch.__version__}",
    }


def cpu_name() -> str:
    """Return the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
