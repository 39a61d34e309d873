"""The training loop, which replaces `basicsr.train.train_pipeline`.

A resumed run gives the same result as an uninterrupted run. With BasicSR's loop, the results differ. That loop
also ends early if the batch size does not divide the size of the data set, and restarts the data workers at each epoch.
"""

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from han_arch import files
from han_arch.errors import printable
from han_arch.models.guard import GaveUp
from han_arch.opt import load, read
from han_arch.speed import memory
from han_arch.training import records, resume
from han_arch.training.loaders import build_loaders, next_batch, reading
from han_arch.training.processes import StopRequest

STOPPED_BY_SIGNAL = 3


def train(opt: dict[str, Any], args: argparse.Namespace, environment: str, warnings: list[str]) -> int:
    """Train a network, from iteration 0 or from a training state. This function does not change `opt`.

    The log starts with the environment (installed versions and plugins) and the warnings about the options.

    Returns:
        0 when all iterations are done; 3 when a signal stopped the run and its state is saved.

    Raises:
        UserError: an option is wrong, a file could not be written, or the run would replace an unfinished run.
    """
    from basicsr.models import build_model

    start = resume.find(opt)
    if start.state is None:
        resume.check_pretrained(opt)
    resume.prepare_folders(opt, start, fresh=args.fresh)
    if opt["rank"] == 0:
        _keep_options(opt, args)
    model_opt = start.model_options(opt)
    logger = records.start_log(model_opt, environment, [*warnings, *start.notes])
    kept = memory.keep_freed_memory() if opt["num_gpu"] == 0 else None
    if kept:
        logger.info(kept)
    train_loader, val_loaders = build_loaders(opt, start.start_iter, logger)
    model = build_model(model_opt)
    tb_logger = records.open_tensorboard(opt, start.start_iter)
    samples = train_loader.batch_size * opt["world_size"]
    with (
        StopRequest() as stop,
        records.Progress(opt, start.start_iter, samples, tb_logger, logger) as progress,
        BetweenSteps(opt, model, val_loaders, progress) as between,
        reading(train_loader) as batches,  # last: an error stops the workers before the model is saved
    ):
        if start.state is not None:
            start.load_into(model)  # last: building the loaders changes torch's random state
            logger.info(f"Resuming training from epoch: {start.state['epoch']}, iter: {start.start_iter}.")
            if getattr(model, "validated", start.start_iter) < start.start_iter:
                between.validate(start.state["epoch"], start.start_iter)  # the killed run did not finish it
        for current_iter in range(start.start_iter + 1, progress.total_iter + 1):
            began = time.monotonic()
            batch = next_batch(batches, current_iter)
            waited = time.monotonic() - began
            between.begin()
            model.update_learning_rate(current_iter, warmup_iter=opt["train"].get("warmup_iter", -1))
            model.feed_data(batch)
            model.optimize_parameters(current_iter)
            numbers = dict(model.get_current_log())
            progress.count(current_iter, time.monotonic() - began, waited, numbers)

            epoch = (current_iter * samples - 1) // len(train_loader.dataset)
            between.end(epoch, current_iter)
            between.log(epoch, current_iter, numbers)
            stopped = stop.agreed()
            between.save(epoch, current_iter, now=stopped)
            if stopped and current_iter < progress.total_iter:
                logger.warning(
                    f"Stopped by {stop.signal_name or 'a signal to another process'} after iteration {current_iter}. "
                    "The training state is saved; run the same command with --auto_resume to continue."
                )
                return STOPPED_BY_SIGNAL
            between.validate(epoch, current_iter)  # after the save: a validation may need much memory and time
    between.finish()
    return 0


def _keep_options(opt: dict[str, Any], args: argparse.Namespace) -> None:
    """Write the options of the run to the experiment's folder, with the time and the command at the top of the file."""
    text = load.as_file(opt) if args.force_yml else read.read_text(Path(args.opt))
    head = f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {printable(' '.join(sys.argv))}\n\n"
    files.write(Path(opt["path"]["experiments_root"]) / Path(args.opt).name, head + text)


class BetweenSteps:
    """The work between two training steps: logging, validation and saving.

    If an error ends the `with` block, the state after the last complete iteration is saved, so that the run can be
    resumed exactly. It is not saved if the error came while the weights changed, or if LossGuard gave up. The log file
    gets the traceback of the error.
    """

    def __init__(self, opt: dict[str, Any], model: Any, val_loaders: list[Any], progress: records.Progress) -> None:
        self.opt, self.model, self.val_loaders, self.progress = opt, model, val_loaders, progress
        self.folder = Path(opt["path"]["experiments_root"])
        self.csv_logs: dict[str, records.CsvLog] = {}
        self.epoch, self.done = 0, progress.start_iter  # the last complete iteration
        self.saved = progress.start_iter  # iteration of the newest training state
        self.is_inside = False  # whether an iteration is in progress

    def __enter__(self) -> "BetweenSteps":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or not self.progress.is_main:
            return
        records.write_to_file(self.progress.logger, "".join(traceback.format_exception(error)))
        try:
            self._rescue(error)
        except Exception as second:  # for example, the disk is full; the first error ends the run
            if str(second) != str(error):
                reason = (str(second) or type(second).__name__).splitlines()[0]
                self.progress.logger.warning(f"Iteration {self.done} could not be saved: {printable(reason)}")

    def _rescue(self, error: Exception) -> None:
        if self.is_inside:
            if isinstance(error, GaveUp):  # the newest weights are bad
                return
            if not getattr(self.model, "undo_iteration", bool)():
                self.progress.logger.warning("An error ended the run while the weights changed, so they are not saved.")
                return
        if self.done > self.saved:
            self.save(self.epoch, self.done, now=True)
        if self.saved:
            self.progress.logger.warning(
                f"An error ended the run after iteration {self.saved}. The training state is saved; fix the cause of "
                "the error, then run the same command with --auto_resume to continue."
            )

    def begin(self) -> None:
        """Note that an iteration begins to change the model. `end` must follow."""
        getattr(self.model, "begin_iteration", bool)()
        self.is_inside = True

    def end(self, epoch: int, current_iter: int) -> None:
        """Note that an iteration is complete."""
        self.epoch, self.done, self.is_inside = epoch, current_iter, False

    def log(self, epoch: int, current_iter: int, numbers: dict[str, float]) -> None:
        """Log losses, learning rates and speed every `print_freq` iterations."""
        if current_iter % self.opt["logger"]["print_freq"]:
            return
        learning_rates = self.model.get_current_learning_rate()
        self._add_to_csv("train.csv", {"iter": current_iter, "epoch": epoch, "lr": learning_rates[0], **numbers})
        self.progress.write_line(epoch, current_iter, learning_rates, numbers)

    def validate(self, epoch: int, current_iter: int) -> None:
        """Compute the metrics on all validation sets, every `val_freq` iterations and after the last iteration.

        If the metric chosen by `keep_best` is the best so far on the first validation set, save net_g_best.pth. If the
        training state of this iteration is already saved, add the best scores to it.
        """
        val = self.opt.get("val")
        if not val or not self._is_due(current_iter, val["val_freq"]):
            return
        keep_best = self.opt["logger"].get("keep_best")
        for index, loader in enumerate(self.val_loaders):
            name = loader.dataset.opt["name"]
            self.model.validation(loader, current_iter, self.progress.tb_logger, val["save_img"])
            results = getattr(self.model, "metric_results", None)
            if not results:
                continue
            if index == 0 and keep_best and self.model.best_metric_results[name][keep_best]["iter"] == current_iter:
                self.model.save_networks("best")
            self._add_to_csv(f"val_{name}.csv", {"iter": current_iter, **results})
        if hasattr(self.model, "validated"):
            self.model.validated = current_iter
            if self.saved == current_iter:
                self.model.save_training_state(epoch, current_iter)

    def save(self, epoch: int, current_iter: int, *, now: bool) -> None:
        """Save a checkpoint if `now` is True, every `save_checkpoint_freq` iterations, and after the last iteration."""
        logger_opt = self.opt["logger"]
        if not now and not self._is_due(current_iter, logger_opt["save_checkpoint_freq"]):
            return
        self.progress.logger.info("Saving models and training states.")
        self.model.save(epoch, current_iter)
        self.saved = current_iter
        if logger_opt.get("keep_last") and self.progress.is_main:
            resume.keep_last(self.opt, logger_opt["keep_last"])

    def finish(self) -> None:
        """Save the networks as net_g_latest.pth, close TensorBoard's writer, and log the summary."""
        self.progress.logger.info("End of training; saving the latest model.")
        self.model.save(epoch=-1, current_iter=-1)
        if self.progress.tb_logger:
            self.progress.tb_logger.close()
        if self.progress.is_main:
            self.progress.logger.info(records.summarise(self.folder, (self.opt.get("val") or {}).get("metrics") or {}))

    def _is_due(self, current_iter: int, frequency: int) -> bool:
        return current_iter % frequency == 0 or current_iter == self.progress.total_iter

    def _add_to_csv(self, name: str, row: dict[str, object]) -> None:
        if not self.progress.is_main:
            return
        if name not in self.csv_logs:
            start_iter = min(self.progress.start_iter, int(row["iter"]) - 1)  # type: ignore[call-overload]
            self.csv_logs[name] = records.CsvLog(self.folder / name, list(row), start_iter)
        self.csv_logs[name].add(row)
