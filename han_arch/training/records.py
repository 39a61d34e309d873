"""The records of a run: the log with its progress lines, the live line of a terminal, TensorBoard and CSV files."""

import csv
import datetime
import io
import logging
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from han_arch import files
from han_arch.models import REFUSED_WRITE

_STATM = Path("/proc/self/statm")


def start_log(opt: dict[str, Any], environment: str, notes: list[str]) -> logging.Logger:
    """Start the log, in the experiment and on stderr.

    Args:
        opt: the run's options.
        environment: versions and plugins.
        notes: warnings of the options' check and of the resume.
    """
    from basicsr.utils import get_root_logger, get_time_str
    from basicsr.utils.options import dict2str

    log_file = os.path.join(opt["path"]["log"], f"train_{opt['name']}_{get_time_str()}.log")
    logger: logging.Logger = get_root_logger(log_level=logging.INFO, log_file=log_file)
    logger.info(environment)
    logger.info(dict2str(opt))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # On a full disk the CSV file, which gets a row with each line, reports it once.
            handler.handleError = lambda record: None  # type: ignore[method-assign]
    for note in notes:
        logger.warning(note)
    return logger


def open_tensorboard(opt: dict[str, Any], start_iter: int) -> Any:
    """Open TensorBoard's writer on tb_logger/NAME, where `use_tb_logger` is set; start wandb before it.

    Args:
        opt: the run's options.
        start_iter: iterations that are done. Events after them are hidden, because a resumed run writes them again.

    Returns:
        The SummaryWriter; None on other processes than the first, in debug runs, and without `use_tb_logger`.
    """
    settings = opt["logger"]
    if opt["rank"] != 0 or "debug" in opt["name"] or not settings.get("use_tb_logger"):
        return None
    if (settings.get("wandb") or {}).get("project"):
        from basicsr.utils import init_wandb_logger

        init_wandb_logger(opt)
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(opt["root_path"]) / "tb_logger" / opt["name"]
    return SummaryWriter(str(folder), purge_step=start_iter + 1 if start_iter else None)


class CsvLog:
    """A CSV file of numbers that a resumed run continues as if it had never stopped.

    Args:
        path: the file.
        columns: column names, "iter" first.
        start_iter: iterations that are done; rows of later ones are dropped, because a resumed run writes them again.
    """

    def __init__(self, path: Path, columns: list[str], start_iter: int) -> None:
        self.path, self.columns = path, columns
        kept = [row for row in self.rows() if int(row["iter"]) <= start_iter] if path.exists() else []
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        files.write(path, text.getvalue())

    def add(self, row: dict[str, object]) -> None:
        """Append a row; numbers keep all their digits.

        Raises:
            UserError: the system refused to write.
        """
        with files.clear_refusal(self.path, REFUSED_WRITE), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def rows(self) -> list[dict[str, str]]:
        """Return all complete rows; a killed process may leave half a row at the end."""
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["iter"].isdigit()]


class Progress(ExitStack[None]):
    """Measure the iterations of a run and report them, in place of BasicSR's MessageLogger.

    Rates cover training since the last line, without validation and saving. The ETA covers everything since the first
    iteration of this start.

    Args:
        opt: the run's options.
        start_iter: iterations that are done.
        samples_per_iter: samples per iteration, over all processes.
        tb_logger: TensorBoard's writer, or None.
        logger: the run's log.
    """

    def __init__(
        self, opt: dict[str, Any], start_iter: int, samples_per_iter: int, tb_logger: Any, logger: logging.Logger
    ) -> None:
        super().__init__()
        self.name, self.total_iter = opt["name"], int(opt["train"]["total_iter"])
        self.start_iter, self.samples_per_iter = start_iter, samples_per_iter
        self.tb_logger, self.logger = tb_logger, logger
        self.is_main = opt["rank"] == 0
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0

    def __enter__(self) -> "Progress":
        # disable=None hides the bar where stderr is no terminal: a log file cannot show a line that rewrites itself.
        self._bar = self.enter_context(tqdm(
            total=self.total_iter, initial=self.start_iter, desc=self.name, unit="it", dynamic_ncols=True,
            disable=None if self.is_main else True,
        ))  # fmt: skip
        if not self._bar.disable:
            self.enter_context(logging_redirect_tqdm([self.logger]))
        self._began = self._first_done = time.monotonic()
        return self

    def count(self, current_iter: int, seconds: float, waited: float, numbers: dict[str, float]) -> None:
        """Count an iteration.

        Args:
            current_iter: its number.
            seconds: its duration.
            waited: the seconds of it that were spent waiting for data.
            numbers: as for `write_line`.
        """
        self.steps += 1
        self.seconds += seconds
        self.waited += waited
        if current_iter == self.start_iter + 1:
            self._first_done = time.monotonic()
        loss = sum(value for key, value in numbers.items() if key.startswith("l_"))
        self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update()

    def write_line(self, epoch: int, current_iter: int, lrs: list[float], numbers: dict[str, float]) -> None:
        """Write a line to the log and the same numbers to TensorBoard; reset the rates.

        Args:
            epoch: complete passes over the training set.
            current_iter: the iteration.
            lrs: learning rates.
            numbers: losses (l_...) and other results of the step, such as grad_norm.
        """
        rate = self.steps / self.seconds if self.seconds else 0.0
        memory = memory_in_use() / 2**20
        speed = {"it/s": rate, "samples/s": rate * self.samples_per_iter}
        rates = "".join(f"{lr:.3e}," for lr in lrs)
        shown = [
            f"eta: {datetime.timedelta(seconds=round(self._eta(current_iter)))}",
            *(f"{value:.4g} {unit}" for unit, value in speed.items()),
            f"data {self.waited / self.seconds if self.seconds else 0:.0%}",
            *([f"memory {memory:,.0f} MiB"] if memory else []),
        ]
        self.logger.info(
            f"[{self.name}][epoch:{epoch:3d}, iter:{current_iter:8,d}, lr:({rates})] [{', '.join(shown)}] "
            + " ".join(f"{key}: {value:.4e}" for key, value in numbers.items())
        )
        if self.tb_logger:
            scalars = {f"losses/{key}" if key.startswith("l_") else key: value for key, value in numbers.items()}
            scalars |= {"lr": lrs[0], "speed/samples_per_s": speed["samples/s"], "memory_MiB": memory}
            for key, value in scalars.items():
                self.tb_logger.add_scalar(key, value, current_iter)
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0

    def _eta(self, current_iter: int) -> float:
        """Return seconds; the first iteration, which compiles and starts workers, counts only while it is alone."""
        done = current_iter - self.start_iter - 1
        now = time.monotonic()
        each = (now - self._first_done) / done if done > 0 else now - self._began
        return each * (self.total_iter - current_iter)


def memory_in_use() -> int:
    """Return the bytes in use: on a GPU the peak of all tensors, on Linux CPUs what the process holds.

    Other systems give the peak of the process; 0 where it is unknown.
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
