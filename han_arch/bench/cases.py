"""The cases of `basicsr bench`: build the networks, measure every case, collect the results."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from han_arch.archs.han_arch import HAN
from han_arch.bench.measure import (
    TRAIN_BATCH,
    TRAIN_LR_SIZE,
    Measurement,
    Run,
    alternate,
    inference_run,
    peak_memory,
    settle,
    training_run,
)
from han_arch.bench.networks import CASES, DTYPES, NETWORKS, Size, build
from han_arch.errors import UserError
from han_arch.export.runtime import RUNTIMES, load_runtime
from han_arch.export.write import export
from han_arch.speed import memory


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Attributes:
        networks: keys of NETWORKS.
        cases: of CASES.
        dtypes: of DTYPES.
        lr_sizes: LR pixels of a side, for inference.
        memory_lr_size: LR pixels of a side, for peak memory.
        repeat: rounds over all networks.
        size: size of the networks.

    Raises:
        UserError: a number is too small.
    """

    networks: tuple[str, ...] = tuple(NETWORKS)
    cases: tuple[str, ...] = CASES
    dtypes: tuple[str, ...] = tuple(DTYPES)
    lr_sizes: tuple[int, ...] = (96, 192)
    memory_lr_size: int = 384
    repeat: int = 3
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.repeat, self.size.num_block, self.memory_lr_size, *self.lr_sizes) < 1 or self.size.num_feat < 4:
            raise UserError("--repeat, --num_block and sizes must be at least 1, --num_feat at least 4")


@dataclass
class BenchResult:
    """The result of `measure_all`.

    Attributes:
        nets: built networks, by key of NETWORKS.
        files: exported files, by key; deleted after the measurements.
        rows: the measurements.
        skipped: why a network was not built, by title.
    """

    nets: dict[str, nn.Module] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    rows: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def measure_all(settings: BenchSettings, say: Callable[[str], object]) -> BenchResult:
    """Build the networks and measure all cases; `say` gets the name of each case before it starts."""
    result = BenchResult()
    with tempfile.TemporaryDirectory(prefix="han_arch_bench_") as folder:
        for key in sorted(settings.networks, key=lambda key: NETWORKS[key].runtime is not None):  # runtimes last
            network = NETWORKS[key]
            try:
                if network.runtime is None:
                    result.nets[key] = build(key, settings.size)
                elif "inference" in settings.cases:
                    path = Path(folder) / f"han{RUNTIMES[network.runtime]}"
                    export(cast(HAN, build(key, settings.size).eval()), "han", network.runtime, path)
                    result.files[key] = path
            except UserError as error:
                result.skipped[network.title] = str(error)
        for dtype in settings.dtypes:
            for lr_size in settings.lr_sizes if "inference" in settings.cases else ():
                case = f"inference, LR {lr_size}, {dtype}"
                say(case)
                result.rows += alternate(case, _inference_runs(result, dtype, lr_size), settings.repeat)
            if "training" in settings.cases:
                case = f"training step, batch {TRAIN_BATCH}, LR {TRAIN_LR_SIZE}, {dtype}"
                say(case)
                result.rows += _training_rows(case, result.nets, dtype, settings.repeat)
        for key in result.nets if "memory" in settings.cases else ():
            if NETWORKS[key].fits("memory"):
                say(f"memory, {NETWORKS[key].title}")
                result.rows.append(peak_memory(key, settings.size, settings.memory_lr_size))
    return result


def _inference_runs(built: BenchResult, dtype: str, lr_size: int) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for key, net in built.nets.items():
        if NETWORKS[key].fits("inference", dtype):
            runs[NETWORKS[key].title] = inference_run(NETWORKS[key], net, dtype, lr_size)
    lq = torch.rand(1, 3, lr_size, lr_size)
    for key, path in built.files.items():
        if NETWORKS[key].fits("inference", dtype):
            opened = load_runtime(path, str(NETWORKS[key].runtime), dtype=dtype, threads=torch.get_num_threads())
            runs[NETWORKS[key].title] = partial(opened, lq)
    return runs


def _training_rows(case: str, nets: Mapping[str, nn.Module], dtype: str, repeat: int) -> list[Measurement]:
    runs: dict[str, Run] = {}
    before: dict[str, Run] = {}
    for key, net in nets.items():
        network = NETWORKS[key]
        if network.fits("training", dtype):
            runs[network.title] = training_run(network, net, dtype)
            before[network.title] = partial(settle, runs[network.title], network.keeps_memory)
    try:
        return alternate(case, runs, repeat, before)
    finally:
        memory.give_back_freed_memory()
