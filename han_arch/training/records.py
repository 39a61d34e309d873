"""Records of a training run: log, progress bar, TensorBoard, CSV files, and the summary at the end."""

import csv
import datetime
import importlib.util
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from han_arch import files
from han_arch.errors import printable
from han_arch.models import REFUSED_WRITE


def start_log(opt: dict[str, Any], environment: str, notes: list[str]) -> logging.Logger:
    """Start the log on stderr and in a file. The log begins with the environment, options and warnings (`notes`)."""
    from basicsr.utils import get_time_str
    from basicsr.utils.options import dict2str

    log_file = os.path.join(opt["path"]["log"], f"train_{opt['name']}_{get_time_str()}.log")
    logger = open_log(log_level=logging.INFO, log_file=log_file)
    logger.info(environment)
    logger.info(dict2str(opt))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # Ignore write errors here: on a full disk, writing the CSV file fails too and ends the run with one error.
            handler.handleError = lambda record: None  # type: ignore[method-assign]
    for note in notes:
        logger.warning(note)
    return logger


def open_log(**settings: Any) -> logging.Logger:
    """Call BasicSR's `get_root_logger`. Its log can hold every name, and an error of writing its file is raised."""
    from basicsr.utils import get_root_logger

    def escape(record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
        return True

    def fail(record: logging.LogRecord) -> None:
        raise  # the error that `logging` caught; by default, it prints a traceback and the run goes on

    logger: logging.Logger = get_root_logger(**settings)
    logger.addFilter(escape)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and handler.stream:
            handler.stream.reconfigure(encoding="utf-8", errors="backslashreplace")
            handler.handleError = fail  # type: ignore[method-assign]
    return logger


def write_to_file(logger: logging.Logger, text: str) -> None:
    """Write a text to the files of a logger, but not to stderr."""
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, text, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler) and logger.filter(record):
            handler.handle(record)


def open_tensorboard(opt: dict[str, Any], start_iter: int) -> Any:
    """Open a TensorBoard writer in the folder tb_logger/NAME. If the options set a wandb project, start wandb first.

    TensorBoard hides old values of iterations after start_iter, because the resumed run writes them again.

    Returns:
        The SummaryWriter; None if the run is a debug run, `use_tb_logger` is false, or the rank is not 0.
    """
    settings = opt["logger"]
    if opt["rank"] != 0 or "debug" in opt["name"] or not settings.get("use_tb_logger"):
        return None
    if (settings.get("wandb") or {}).get("project"):
        from basicsr.utils import init_wandb_logger

        init_wandb_logger(opt)
    from torch.utils.tensorboard import SummaryWriter

    threading.excepthook = _without_writers_error
    folder = Path(opt["root_path"]) / "tb_logger" / opt["name"]
    return SummaryWriter(str(folder), purge_step=start_iter + 1 if start_iter else None)


def _without_writers_error(event: threading.ExceptHookArgs) -> None:
    # An error of TensorBoard's thread, such as a full disk, is raised again by the next call of the writer.
    if type(event.thread).__name__ != "_AsyncWriterThread":
        threading.__excepthook__(event)


class CsvLog:
    """A CSV file of numbers with "iter" as the first column; a resumed run continues the file.

    Rows of iterations after start_iter are removed, because the resumed run writes them again. The file keeps columns
    that the resumed run no longer has, such as those of a loss that was removed. Missing values are empty.
    """

    def __init__(self, path: Path, columns: list[str], start_iter: int) -> None:
        rows = [row for row in read_rows(path) if int(row["iter"]) <= start_iter]
        self.path, self.columns = path, list(dict.fromkeys([*columns, *(rows[0] if rows else ())]))
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        files.write(path, text.getvalue())

    def add(self, row: dict[str, object]) -> None:
        """Append a row, with all digits of the numbers. Raise UserError if the disk is full or refuses to write."""
        with files.clear_refusal(self.path, REFUSED_WRITE), self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, without half-written rows; an empty list if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row.get("iter", "").isdecimal()]


class Progress(ExitStack[None]):
    """Progress bar, log lines and speed of a training run. This class replaces BasicSR's MessageLogger.

    The speed (iterations per second) is measured since the last log line, without validation and saving. The remaining
    time (ETA) includes validation and saving.

    Args:
        start_iter: number of iterations that are already done.
        samples_per_iter: number of samples in an iteration, over all processes.
        tb_logger: TensorBoard's writer or None.
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
        # disable=None hides the bar if stderr is not a terminal: a file cannot show a line that rewrites itself.
        self._bar = self.enter_context(tqdm(
            total=self.total_iter, initial=self.start_iter, desc=self.name, unit="it", dynamic_ncols=True,
            disable=None if self.is_main else True,
        ))  # fmt: skip
        if not self._bar.disable:
            self.enter_context(logging_redirect_tqdm([self.logger]))
        self._began = self._first_done = time.monotonic()
        return self

    def count(self, current_iter: int, seconds: float, waited: float, numbers: dict[str, float]) -> None:
        """Count one finished iteration, and update the progress bar.

        Args:
            seconds: duration of the iteration.
            waited: how many of these seconds the iteration waited for data.
            numbers: values of the training step; the names of losses begin with "l_".
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
        """Write a line to the log and the same values to TensorBoard; then start a new speed measurement."""
        seconds = self.seconds or float("inf")  # a coarse clock can measure 0
        rate, waited = self.steps / seconds, self.waited / seconds
        samples, memory = rate * self.samples_per_iter, memory_in_use() / 2**20
        speed = f"{rate:.4g} it/s, {samples:.4g} samples/s, data {waited:.0%}"
        if memory:
            speed += f", memory {memory:,.0f} MiB"
        # After the second iteration, ignore the first iteration, which is slow because it may compile.
        done, now = current_iter - self.start_iter, time.monotonic()
        each = (now - self._first_done) / (done - 1) if done > 1 else now - self._began
        eta = datetime.timedelta(seconds=round(each * (self.total_iter - current_iter)))
        rates = "".join(f"{lr:.3e}," for lr in lrs)
        self.logger.info(
            f"[{self.name}][epoch:{epoch:3d}, iter:{current_iter:8,d}, lr:({rates})] [eta: {eta}, {speed}] "
            + " ".join(f"{key}: {value:.4e}" for key, value in numbers.items())
        )
        if self.tb_logger:
            scalars = {f"losses/{key}" if key.startswith("l_") else key: value for key, value in numbers.items()}
            scalars |= {"lr": lrs[0], "speed/samples_per_s": samples, "memory_MiB": memory}
            for key, value in scalars.items():
                self.tb_logger.add_scalar(key, value, current_iter)
        self.steps, self.seconds, self.waited = 0, 0.0, 0.0


def memory_in_use() -> int:
    """Return the memory in use, in bytes; 0 if it is unknown.

    With a GPU: peak memory of all tensors on the GPU. Without a GPU: main memory of the process (on macOS: the peak).
    """
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def summarise(folder: Path, metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a text with the best and last value of each validation metric, and the paths of the output files.

    `metrics` is the option `val:metrics`. For a metric with `better: lower` the lowest value is the best.
    """
    lines = ["Summary"]
    for path in sorted(folder.glob("val_*.csv")):
        columns = _read_columns(path)
        for metric, (iterations, values) in columns.items():
            which, choose = ("lowest", min) if metrics.get(metric, {}).get("better") == "lower" else ("highest", max)
            best = values.index(choose([value for value in values if value == value] or values))  # without nan
            lines.append(
                f"  {path.stem.removeprefix('val_')} {metric}: {which} {values[best]:.4f} "
                f"at iteration {iterations[best]:.0f}, last {values[-1]:.4f} at iteration {iterations[-1]:.0f}"
            )
    weights = [folder / "models" / name for name in ("net_g_latest.pth", "net_g_best.pth")]
    lines += [f"  weights: {path}" for path in weights if path.exists()]
    curves: Path | str = "not drawn, because matplotlib is not installed"
    if importlib.util.find_spec("matplotlib") is not None:
        try:
            curves = draw_curves(folder)
        except Exception as error:  # the run has succeeded, whatever happens to the picture
            curves = f"not drawn ({printable(' '.join(str(error).split()) or type(error).__name__)})"
    return "\n".join([*lines, f"  numbers: {folder}/*.csv", f"  curves: {curves}"])


def draw_curves(folder: Path) -> Path:
    """Draw the columns of train.csv and val_*.csv as curves; return the path of curves.png. This needs matplotlib."""
    from matplotlib.figure import Figure

    panels: dict[str, list[tuple[str, list[float], list[float]]]] = {}
    for path in [folder / "train.csv", *sorted(folder.glob("val_*.csv"))]:
        label = "training" if path.name == "train.csv" else _plain(path.stem.removeprefix("val_"))
        columns = _read_columns(path)
        for column, (iterations, values) in columns.items():
            if column != "epoch":
                panels.setdefault(column, []).append((label, iterations, values))
    figure = Figure(figsize=(9, 2.4 * max(1, len(panels))), layout="constrained")
    axes = figure.subplots(max(1, len(panels)), squeeze=False)[:, 0]
    for axis, (column, curves) in zip(axes, panels.items(), strict=False):
        for label, iterations, values in curves:
            axis.plot(iterations, values, marker="." if len(iterations) < 30 else "", label=label)
        if column.startswith(("l_", "grad")):
            axis.set_yscale("log")
        axis.set_ylabel(_plain(column))
        axis.grid(alpha=0.3)
        axis.legend()
    axes[-1].set_xlabel("iteration")
    path = folder / "curves.png"
    with files.replacing(path) as file:
        figure.savefig(file, dpi=110, format="png")
    return path


def _plain(text: str) -> str:
    return printable(text).replace("$", r"\$")  # between two "$", matplotlib reads a formula


def _read_columns(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Return the iterations and the values of each column, without empty values."""
    rows = read_rows(path)
    columns = {}
    for name in [name for name in (rows[0] if rows else ()) if name != "iter"]:
        filled = [(float(row["iter"]), float(row[name])) for row in rows if row[name]]
        columns[name] = ([iteration for iteration, _ in filled], [value for _, value in filled])
    return columns
