"""The cases of `basicsr bench`: build the networks, measure every case, collect the results."""

import tempfile
from collections.abc import Callable, Iterator
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
    """Measure all cases; `say` gets the name of each case before it starts."""
    result = BenchResult()
    with tempfile.TemporaryDirectory(prefix="han_arch_bench_") as folder:
        for key in sorted(settings.networks, key=lambda key: NETWORKS[key].runtime is not None):  # stable
            network = NETWORKS[key]
            try:
                if network.runtime is None:
                    result.nets[key] = build(key, settings.size)
                elif "inference" in settings.cases:
                    path = Path(folder) / f"han{RUNTIMES[network.runtime]}"
                    net = cast(HAN, build(key, settings.size).eval())
                    export(net, "han", network.runtime, path)
                    result.files[key] = path
            except UserError as error:
                result.skipped[network.title] = str(error)
        for case, measure in _cases(settings, result):
            say(case)
            result.rows += measure()
    return result


def _cases(settings: BenchSettings, built: BenchResult) -> Iterator[tuple[str, Callable[[], list[Measurement]]]]:
    for dtype in settings.dtypes:
        if "inference" in settings.cases:
            for lr_size in settings.lr_sizes:
                case = f"inference, LR {lr_size}, {dtype}"
                yield case, partial(_inference, built, case, dtype, lr_size, settings.repeat)
        if "training" in settings.cases:
            yield f"training, {dtype}", partial(_training, built, dtype, settings.repeat)
    if "memory" in settings.cases:
        for key in built.nets:
            if NETWORKS[key].fits("memory"):
                measure = partial(_memory, key, settings)
                yield f"memory, {NETWORKS[key].title}", measure


def _inference(built: BenchResult, case: str, dtype: str, lr_size: int, repeat: int) -> list[Measurement]:
    runs: dict[str, Run] = {}
    for key, net in built.nets.items():
        if NETWORKS[key].fits("inference", dtype):
            runs[NETWORKS[key].title] = inference_run(NETWORKS[key], net, dtype, lr_size)
    lq = torch.rand(1, 3, lr_size, lr_size)
    for key, path in built.files.items():
        if NETWORKS[key].fits("inference", dtype):
            opened = load_runtime(path, str(NETWORKS[key].runtime), dtype=dtype, threads=torch.get_num_threads())
            runs[NETWORKS[key].title] = partial(opened, lq)
    return alternate(case, runs, repeat)


def _training(built: BenchResult, dtype: str, repeat: int) -> list[Measurement]:
    runs: dict[str, Run] = {}
    before: dict[str, Run] = {}
    for key, net in built.nets.items():
        network = NETWORKS[key]
        if network.fits("training", dtype):
            runs[network.title] = training_run(network, net, dtype)
            before[network.title] = partial(settle, runs[network.title], network.keeps_memory)
    try:
        return alternate(f"training step, batch {TRAIN_BATCH}, LR {TRAIN_LR_SIZE}, {dtype}", runs, repeat, before)
    finally:
        memory.give_back_freed_memory()


def _memory(key: str, settings: BenchSettings) -> list[Measurement]:
    return [peak_memory(key, settings.size, settings.memory_lr_size)]
