"""Times networks in turn, so that what else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from han_arch.bench.networks import AUTHORS, BareConvolutions, Candidate
from han_arch.speed import memory

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRAIN_BATCH, TRAIN_LR_SIZE = 4, 48  # images, LR pixels
WARM_STEPS = 2  # after memory's handling changed: the first step faults it in, the second finds its last places


@dataclass(frozen=True)
class Row:
    """One cell of the table: `values` are seconds, or MB for a case of memory."""

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
    case: str,
    runs: Mapping[str, Callable[[], object]],
    repeat: int,
    before: Mapping[str, Callable[[], object]] | None = None,
) -> list[Row]:
    """Run all in turn, `repeat` times; wall-clock seconds.

    Each is warmed up by running once before the first round, or by what `before` has for it before every timed run.
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
    return [Row(case, name, tuple(values)) for name, values in seconds.items()]


def inference_rows(
    candidates: list[Candidate],
    dtype: str,
    lr_size: int,
    repeat: int,
    others: Mapping[str, Callable[[], object]] | None = None,
) -> list[Row]:
    """Whole images of lr_size x lr_size, in a network of that dtype; `others` are further runs by name."""
    runs: dict[str, Callable[[], object]] = {}
    for candidate in candidates:
        if candidate.training_only or (candidate.float32_only and dtype != "float32"):
            continue
        net = candidate.copy(DTYPES[dtype]).eval()
        lq = (torch.rand(1, 3, lr_size, lr_size) * candidate.input_range).to(DTYPES[dtype])
        runs[candidate.name] = _inference(net, lq)
    runs |= others or {}
    return alternate(f"inference, LR {lr_size}, {dtype}", runs, repeat)


def training_rows(candidates: list[Candidate], dtype: str, repeat: int) -> list[Row]:
    """Forward, L1 loss and backward; bfloat16 is autocast over float32 weights, the optimizer's step is not counted."""
    runs, before = {}, {}
    for candidate in candidates:
        if candidate.float32_only and dtype != "float32":
            continue
        lq = torch.rand(TRAIN_BATCH, 3, TRAIN_LR_SIZE, TRAIN_LR_SIZE) * candidate.input_range
        bare = isinstance(candidate.net, BareConvolutions)
        net = candidate.copy(DTYPES[dtype] if bare else torch.float32).train()
        if isinstance(net, BareConvolutions):
            runs[candidate.name] = _bare_step(net, lq.to(DTYPES[dtype]))
        else:
            runs[candidate.name] = _step(net, lq, dtype)
        before[candidate.name] = _settled(runs[candidate.name], candidate.keeps_memory)
    try:
        return alternate(f"training step, batch {TRAIN_BATCH}, LR {TRAIN_LR_SIZE}, {dtype}", runs, repeat, before)
    finally:
        memory.give_back_freed_memory()


def ratio_to_authors(row: Row, rows: list[Row]) -> float | None:
    """How many times as fast (or as small) as the authors' code in the same case; None where that was not measured."""
    peers = [peer for peer in rows if peer.case == row.case and peer.network == AUTHORS and peer.values]
    if not peers or not row.values:
        return None
    return quotient(peers[0], row) if row.unit == "s" else quotient(row, peers[0])


def quotient(above: Row, below: Row) -> float:
    """The median over the rounds of the two values' quotient: a shared machine is slower in one round than in another.

    Rows of different cases have no rounds in common; their medians are divided.
    """
    if above.case == below.case and len(above.values) == len(below.values):
        return statistics.median(a / b for a, b in zip(above.values, below.values, strict=True))
    return above.median / below.median


def _inference(net: nn.Module, lq: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            net(lq)

    return run


def _step(net: nn.Module, lq: torch.Tensor, dtype: str) -> Callable[[], None]:
    with torch.no_grad():
        gt = torch.rand_like(net(lq))

    def run() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            output = net(lq)
        F.l1_loss(output.float(), gt).backward()
        net.zero_grad(set_to_none=True)

    return run


def _settled(step: Callable[[], object], keeps_memory: bool) -> Callable[[], None]:
    """What goes before a timed step: memory is handled as its network has it, and steps have got used to that."""

    def settle() -> None:
        memory.give_back_freed_memory()
        if keeps_memory:
            memory.keep_freed_memory()
        for _ in range(WARM_STEPS):
            step()

    return settle


def _bare_step(net: BareConvolutions, lq: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        net.step(lq)
        net.zero_grad(set_to_none=True)

    return run
