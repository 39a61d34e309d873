"""Time and peak memory. Networks run in turn, so that other work on the machine affects all of them alike.

`python -m han_arch.bench.measure KEY LR_SIZE NUM_BLOCK NUM_FEAT` prints the peak memory of one inference in bytes.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from han_arch.archs.han_arch import HAN
from han_arch.bench.networks import AUTHORS, DTYPES, NETWORKS, BareConvolutions, BenchNetwork, Size, build
from han_arch.errors import UserError
from han_arch.inference.strips import super_resolve
from han_arch.speed import memory

TRAIN_BATCH, TRAIN_LR_SIZE = 4, 48  # images, LR pixels
WARM_STEPS = 2  # after a change of the allocator: the first step faults memory in, the second settles its places

Run = Callable[[], object]


@dataclass(frozen=True)
class Measurement:
    """A row of the table: seconds, or MB of memory, of one network in one case.

    Attributes:
        case: what was measured.
        network: title of the network.
        values: one for each round.
        unit: "s" or "MB".
        note: why there are no values.
    """

    case: str
    network: str
    values: tuple[float, ...]
    unit: str = "s"
    note: str = ""

    @property
    def median(self) -> float:
        """Median of the values."""
        return statistics.median(self.values)


def alternate(
    case: str, runs: Mapping[str, Run], repeat: int, before: Mapping[str, Run] | None = None
) -> list[Measurement]:
    """Time all runs in turn, `repeat` times.

    Args:
        case: what is measured.
        runs: function to time, by network.
        repeat: number of rounds.
        before: function to call before each timed run, not timed, by network. None: each run warms up once.
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


def inference_run(network: BenchNetwork, net: nn.Module, dtype: str, lr_size: int) -> Run:
    """Return a function that infers one image of lr_size x lr_size with a copy of net in dtype."""
    net = network.copy(net, DTYPES[dtype]).eval()
    lq = network.random_input(1, lr_size).to(DTYPES[dtype])

    def run() -> None:
        with torch.inference_mode():
            net(lq)

    return run


def training_run(network: BenchNetwork, net: nn.Module, dtype: str) -> Run:
    """Return a function that runs forward, L1 loss and backward with a copy of net; no optimizer step.

    bfloat16 is autocast over float32 weights.
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
    """Set the allocator as the network has it in use, then run steps until they are used to it."""
    memory.give_back_freed_memory()
    if keeps_memory:
        memory.keep_freed_memory()
    for _ in range(WARM_STEPS):
        step()


def peak_memory(key: str, size: Size, lr_size: int, timeout: float = 300) -> Measurement:
    """Measure the resident memory in MB (1e6 bytes) that inference adds, in a process of its own.

    Args:
        key: key of NETWORKS.
        size: size of the network.
        lr_size: LR pixels of a side.
        timeout: seconds after which the process is stopped.

    Returns:
        The measurement; without values but with a note if the process failed or the system is not Linux.
    """
    row = partial(Measurement, f"peak memory, LR {lr_size}, float32", NETWORKS[key].title, unit="MB")
    arguments = [key, str(lr_size), str(size.num_block), str(size.num_feat)]
    command = [sys.executable, "-m", "han_arch.bench.measure", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except subprocess.TimeoutExpired:
        return row((), note=f"no result within {timeout:.0f} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        return row((), note=f"the measuring process failed: {last}")
    return row((int(done.stdout.split()[-1]) / 1e6,))


def added_by_inference(key: str, size: Size, lr_size: int) -> int:
    """Return the bytes that inference on lr_size x lr_size adds to the resting network, in this process.

    Raises:
        UserError: the system does not report a process's peak.
    """
    network, net = NETWORKS[key], build(key, size).eval()
    infer = partial(super_resolve, net) if isinstance(net, HAN) else net
    with torch.inference_mode():
        infer(network.random_input(1, 16))  # libraries allocate what they keep
        lq = network.random_input(1, lr_size)
        added = memory.added_at_peak(lambda: infer(lq))
    if added is None:
        raise UserError("peak memory is read from Linux's /proc, which this system does not have")
    return added


def ratio_to_authors(row: Measurement, rows: list[Measurement]) -> float | None:
    """Return how many times as fast, or as small, as the authors' code in the same case; None if not measured."""
    peers = [peer for peer in rows if peer.case == row.case and peer.network == AUTHORS and peer.values]
    if not peers or not row.values:
        return None
    return quotient(peers[0], row) if row.unit == "s" else quotient(row, peers[0])


def quotient(above: Measurement, below: Measurement) -> float:
    """Divide round by round and return the median, since a shared machine is slower in some rounds.

    Different cases have no rounds in common; their medians are divided.
    """
    if above.case == below.case and len(above.values) == len(below.values):
        return statistics.median(a / b for a, b in zip(above.values, below.values, strict=True))
    return above.median / below.median


if __name__ == "__main__":
    _key, _lr_size, _num_block, _num_feat = sys.argv[1:]
    sys.stdout.write(f"{added_by_inference(_key, Size(int(_num_block), int(_num_feat)), int(_lr_size))}\n")
