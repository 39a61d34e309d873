"""Measurements of time and memory. Networks run in turn, so that other work on the machine slows all of them equally.

`python -m han_arch.bench.measure KEY LR_SIZE NUM_BLOCK NUM_FEAT` prints how many bytes one inference adds to memory.
KEY is a key of NETWORKS.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from han_arch.archs.han_arch import HAN
from han_arch.bench.networks import CASES, DTYPES, NETWORKS, BareConvolutions, BenchNetwork, Size, build
from han_arch.errors import UserError
from han_arch.export.runtime import RUNTIMES, load_runtime
from han_arch.export.write import export
from han_arch.inference.strips import super_resolve
from han_arch.speed import memory

TRAIN_BATCH, TRAIN_LR_SIZE = 4, 48  # number of images in a batch; side of an LR image in pixels
WARM_STEPS = 2  # untimed: the first step allocates memory, the second arranges the blocks
MEMORY_TIMEOUT = 300  # seconds for each measurement of memory

Run = Callable[[], object]


@dataclass(frozen=True)
class BenchSettings:
    """Settings of `basicsr bench`. The LR images are square; `lr_sizes` are their sides in pixels.

    Raises:
        UserError: a number is too small.
    """

    networks: Sequence[str] = tuple(NETWORKS)
    cases: Sequence[str] = CASES
    dtypes: Sequence[str] = tuple(DTYPES)
    lr_sizes: Sequence[int] = (96, 192)  # for inference
    memory_lr_size: int = 384  # for the peak memory
    repeat: int = 3  # number of rounds over all networks
    num_block: int = Size.num_block
    num_feat: int = Size.num_feat

    def __post_init__(self) -> None:
        if min(self.repeat, self.num_block, self.memory_lr_size, *self.lr_sizes) < 1 or self.num_feat < 4:
            raise UserError(
                "--repeat, --num_block, --lr_sizes and --memory_lr_size must be at least 1, "
                "and --num_feat must be at least 4"
            )


@dataclass(frozen=True)
class Measurement:
    """One row of the table: the times or the peak memory of a network under the conditions that `case` names."""

    case: str  # such as "inference, LR 96, float32"
    network: str  # title of the network
    values: tuple[float, ...]  # seconds or MB (1e6 bytes), one value per round; empty if the measurement failed
    unit: str = "s"  # "s" or "MB"
    note: str = ""  # reason why the measurement failed

    @property
    def median(self) -> float:
        """Median of the values of all rounds."""
        return statistics.median(self.values)


@dataclass
class BenchResult:
    """Result of `measure_all`: networks, measurements, and skipped networks."""

    # Key of NETWORKS -> the network, or the path of its exported file. `measure_all` deletes the files at its end.
    built: dict[str, nn.Module | Path] = field(default_factory=dict)
    rows: list[Measurement] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # title of a network that could not be built -> the reason

    def fitting(self, case: str, dtype: str) -> list[tuple[BenchNetwork, Any]]:
        """Return the built networks that are measured for `case` (one of CASES) and `dtype` (a key of DTYPES).

        Each item is a pair: the record in NETWORKS; and the network, or the path of its exported file.
        """
        return [(NETWORKS[key], net) for key, net in self.built.items() if NETWORKS[key].fits(case, dtype)]


def measure_all(settings: BenchSettings, say: Callable[[str], object]) -> BenchResult:
    """Build the networks and measure them. Before each part, call `say`, as in `say("inference, LR 96, float32")`."""
    result, size = BenchResult(), Size(settings.num_block, settings.num_feat)
    with tempfile.TemporaryDirectory(prefix="han_arch_bench_") as folder:
        # False sorts before True: exported networks are built last.
        for key in sorted(settings.networks, key=lambda key: NETWORKS[key].runtime is not None):
            try:
                if NETWORKS[key].runtime is None or "inference" in settings.cases:
                    result.built[key] = _build(key, size, Path(folder))
            except UserError as error:
                result.skipped[NETWORKS[key].title] = str(error)
        for dtype in settings.dtypes:
            for lr_size in settings.lr_sizes if "inference" in settings.cases else ():
                say(case := f"inference, LR {lr_size}, {dtype}")
                networks = result.fitting("inference", dtype)
                runs = {network.title: inference_run(network, net, dtype, lr_size) for network, net in networks}
                result.rows += alternate(case, runs, settings.repeat)
            if "training" in settings.cases:
                say(case := f"training step, batch {TRAIN_BATCH}, LR {TRAIN_LR_SIZE}, {dtype}")
                networks = result.fitting("training", dtype)
                runs = {network.title: training_run(network, net, dtype) for network, net in networks}
                before = {one.title: partial(settle, runs[one.title], one.keeps_memory) for one, _ in networks}
                try:
                    result.rows += alternate(case, runs, settings.repeat, before)
                finally:
                    memory.give_back_freed_memory()
        for key in result.built if "memory" in settings.cases else ():
            if NETWORKS[key].fits("memory"):
                say(f"memory, {NETWORKS[key].title}")
                result.rows.append(peak_memory(key, size, settings.memory_lr_size))
    return result


def _build(key: str, size: Size, folder: Path) -> nn.Module | Path:
    net, runtime = build(key, size), NETWORKS[key].runtime
    if runtime is None:
        return net
    path = folder / f"han{RUNTIMES[runtime]}"
    export(cast(HAN, net.eval()), "han", runtime, path)
    return path


def alternate(
    case: str, runs: Mapping[str, Run], repeat: int, before: Mapping[str, Run] | None = None
) -> list[Measurement]:
    """Time all networks in turn, `repeat` times; return one measurement per network.

    Both dicts have the networks' titles as keys. The values of `runs` are the functions to time. The values of `before`
    are called before each timed call. If `before` is None, each function in `runs` is called once as a warm-up.
    """
    if before is None:
        for run in runs.values():
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            if before is not None:
                before[name]()
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return [Measurement(case, name, tuple(values)) for name, values in seconds.items()]


def inference_run(network: BenchNetwork, built: nn.Module | Path, dtype: str, lr_size: int) -> Run:
    """Return a function that upscales one random image of lr_size x lr_size pixels.

    `built` is a network or the path of an exported network. A network is copied first. `dtype` is a key of DTYPES.
    """
    lq = network.random_input(1, lr_size)
    if isinstance(built, Path):
        opened = load_runtime(built, str(network.runtime), dtype=dtype, threads=torch.get_num_threads())
        return partial(opened, lq)
    net, lq = network.copy(built, DTYPES[dtype]).eval(), lq.to(DTYPES[dtype])
    return torch.inference_mode()(partial(net, lq))


def training_run(network: BenchNetwork, net: nn.Module, dtype: str) -> Run:
    """Return a function that runs forward, L1 loss and backward on a copy of `net`, but no optimizer step.

    If `dtype` is bfloat16, the weights stay float32 and autocast is on. If `net` is a BareConvolutions, its weights are
    converted to `dtype`, and the function computes no loss.
    """
    lq = network.random_input(TRAIN_BATCH, TRAIN_LR_SIZE)
    if isinstance(net, BareConvolutions):
        bare = cast(BareConvolutions, network.copy(net, DTYPES[dtype]).train())
        return partial(bare.step, lq.to(DTYPES[dtype]))
    net = network.copy(net).train()
    with torch.no_grad():
        gt = torch.rand_like(net(lq))

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            output = net(lq)
        F.l1_loss(output.float(), gt).backward()
        net.zero_grad(set_to_none=True)

    return run


def settle(step: Run, keeps_memory: bool) -> None:
    """Prepare a timed training step: run `step` WARM_STEPS times without timing.

    Before that, call `give_back_freed_memory` and, if `keeps_memory` is true, `keep_freed_memory`.
    """
    memory.give_back_freed_memory()
    if keeps_memory:
        memory.keep_freed_memory()
    for _ in range(WARM_STEPS):
        step()


def peak_memory(key: str, size: Size, lr_size: int) -> Measurement:
    """In a new process, measure how much memory one inference adds. The image has lr_size x lr_size pixels.

    If the process fails or the system is not Linux, the measurement has a note instead of values.
    """
    row = partial(Measurement, f"peak memory, LR {lr_size}, float32", NETWORKS[key].title, unit="MB")
    arguments = map(str, (key, lr_size, size.num_block, size.num_feat))
    command = [sys.executable, "-m", "han_arch.bench.measure", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MEMORY_TIMEOUT, check=True)
    except subprocess.TimeoutExpired:
        return row((), note=f"the measuring process did not finish within {MEMORY_TIMEOUT} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return row((), note=f"the measuring process failed: {last}")
    return row((int(done.stdout.split()[-1]) / 1e6,))


def added_by_inference(key: str, size: Size, lr_size: int) -> int:
    """Upscale an image of lr_size x lr_size pixels; return how many bytes of memory this adds at its peak.

    Raises:
        UserError: the system does not report the peak memory of a process.
    """
    network, net = NETWORKS[key], build(key, size).eval()
    infer = partial(super_resolve, net) if isinstance(net, HAN) else net
    with torch.inference_mode():
        infer(network.random_input(1, 16))  # warm-up: libraries allocate memory and keep it
        lq = network.random_input(1, lr_size)
        added = memory.added_at_peak(lambda: infer(lq))
    if added is None:
        raise UserError("cannot measure the peak memory, because this system does not have Linux's /proc")
    return added


if __name__ == "__main__":
    _key, _lr_size, _num_block, _num_feat = sys.argv[1:]
    sys.stdout.write(f"{added_by_inference(_key, Size(int(_num_block), int(_num_feat)), int(_lr_size))}\n")
