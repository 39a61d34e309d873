"""What a running training tells: a line of the log every print_freq iterations, and a live line on a terminal."""

import datetime
import logging
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

_STATM = Path("/proc/self/statm")


class Progress:
    """Context that measures the iterations of a run and tells of them; stands in for BasicSR's MessageLogger.

    A line begins as BasicSR's does. Rates are those of training since the line before, without validation and saving;
    the ETA counts everything since this start's first iteration.

    Args:
        opt: the run's options.
        start_iter: iterations that are done.
        samples_per_iter: samples of an iteration, over all processes.
        tb_logger: TensorBoard's writer, or None.
        logger: the run's log.
    """

    def __init__(
        self, opt: dict[str, Any], start_iter: int, samples_per_iter: int, tb_logger: Any, logger: logging.Logger
    ) -> None:
        self.name, self.total_iter = opt["name"], int(opt["train"]["total_iter"])
        self.start_iter, self.samples_per_iter = start_iter, samples_per_iter
        self.tb_logger, self.logger = tb_logger, logger
        self.is_main = opt["rank"] == 0
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0
        self._began = self._first_done = time.monotonic()

    def __enter__(self) -> "Progress":
        # disable=None: not where stderr is no terminal; a log file is no place for a line that rewrites itself.
        self._bar = tqdm(
            total=self.total_iter, initial=self.start_iter, desc=self.name, unit="it", dynamic_ncols=True,
            disable=None if self.is_main else True,
        )  # fmt: skip
        self._redirect = None
        if not self._bar.disable:
            self._redirect = logging_redirect_tqdm([self.logger])
            self._redirect.__enter__()
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        if self._redirect is not None:
            self._redirect.__exit__(kind, error, trace)

    def count(self, current_iter: int, seconds: float, waited: float, numbers: dict[str, float]) -> None:
        """Note an iteration.

        Args:
            current_iter: which.
            seconds: how long it took.
            waited: seconds of it that went into waiting for data.
            numbers: as for `line`.
        """
        self.steps += 1
        self.seconds += seconds
        self.waited += waited
        if current_iter == self.start_iter + 1:
            self._first_done = time.monotonic()
        loss = sum(value for key, value in numbers.items() if key.startswith("l_"))
        self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update()

    def line(self, epoch: int, current_iter: int, lrs: list[float], numbers: dict[str, float]) -> None:
        """Write the line, and the same to TensorBoard, and begin to measure anew.

        Args:
            epoch: passes over the data that are done.
            current_iter: the iteration.
            lrs: learning rates.
            numbers: losses (l_...), and what else the step tells, such as grad_norm.
        """
        rate = self.steps / self.seconds if self.seconds else 0.0
        memory = memory_in_use() / 2**20
        speed = {"it/s": rate, "samples/s": rate * self.samples_per_iter}
        rates = "".join(f"{lr:.3e}," for lr in lrs)
        told = [
            f"eta: {datetime.timedelta(seconds=round(self._eta(current_iter)))}",
            *(f"{value:.4g} {unit}" for unit, value in speed.items()),
            f"data {self.waited / self.seconds if self.seconds else 0:.0%}",
            *([f"memory {memory:,.0f} MiB"] if memory else []),
        ]
        self.logger.info(
            f"[{self.name}][epoch:{epoch:3d}, iter:{current_iter:8,d}, lr:({rates})] [{', '.join(told)}] "
            + " ".join(f"{key}: {value:.4e}" for key, value in numbers.items())
        )
        if self.tb_logger:
            scalars = {f"losses/{key}" if key.startswith("l_") else key: value for key, value in numbers.items()}
            scalars |= {"lr": lrs[0], "speed/samples_per_s": speed["samples/s"], "memory_MiB": memory}
            for key, value in scalars.items():
                self.tb_logger.add_scalar(key, value, current_iter)
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0

    def _eta(self, current_iter: int) -> float:
        """Seconds; the first iteration, which compiles and starts workers, counts only while it is the only one."""
        done = current_iter - self.start_iter - 1
        now = time.monotonic()
        each = (now - self._first_done) / done if done > 0 else now - self._began
        return each * (self.total_iter - current_iter)


def memory_in_use() -> int:
    """Bytes: the most that tensors took on the GPU so far, else what this process holds (its peak on other systems
    than Linux); 0 where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if _STATM.exists():
        import resource

        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
