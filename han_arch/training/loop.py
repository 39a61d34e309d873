"""The training run: BasicSR's data sets, models, message logger and option format around a loop that can be resumed.

It stands in for `basicsr.train.train_pipeline`, whose loop ends early when batches do not divide the set, opens data
workers anew each epoch, and goes on from a training state in another way than an uninterrupted run.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from han_arch.opt import load
from han_arch.speed import memory
from han_arch.training import experiment, tensorboard
from han_arch.training import resume as states
from han_arch.training.loaders import build_loaders, reading
from han_arch.training.progress import Progress
from han_arch.training.records import RunLog
from han_arch.training.stopping import StopRequest
from han_arch.training.summary import summarise

STOPPED_BY_SIGNAL = 3


def train(opt: dict[str, Any], args: argparse.Namespace, environment: str, warnings: list[str]) -> int:
    """Train as the options say, from the start or from a training state.

    Args:
        opt: checked options, `dist`, `rank` and `world_size` among them.
        args: the command's flags: `opt`, the option file, `force_yml` and `fresh`.
        environment: what the log says of versions and plugins.
        warnings: what the check of the options found odd, for the log.

    Returns:
        0 when all iterations are done, 3 when a signal ended the run after saving.

    Raises:
        UserError: nothing could be trained with these options, a run of that name could be resumed and neither
            `--auto_resume` nor `--fresh` says what to do with it, or something could not be written.
    """
    from basicsr.models import build_model

    as_file = load.as_file(opt)  # before a resume names its networks in it
    resume = states.find(opt)
    experiment.prepare_folders(opt, resume, fresh=args.fresh)
    if opt["rank"] == 0:
        experiment.keep_options(opt, args, as_file)
    logger = experiment.start_log(opt, environment, warnings, resume)
    kept = memory.keep_freed_memory() if opt["num_gpu"] == 0 else None
    if kept:
        logger.info(kept)
    train_loader, val_loaders = build_loaders(opt, resume.start_iter, logger)
    model = build_model(opt)
    run = _Run(opt, model, val_loaders, resume.start_iter, tensorboard.open_writer(opt, resume.start_iter), logger)
    samples = train_loader.batch_size * opt["world_size"]
    with (
        reading(train_loader) as batches,
        StopRequest() as stop,
        Progress(opt, resume.start_iter, samples, run.tb_logger, logger) as progress,
    ):
        if resume.state is not None:
            model.resume_training(resume.state)  # after the loaders, which draw from torch's generator
            logger.info(f"Resuming training from epoch: {resume.state['epoch']}, iter: {resume.start_iter}.")
        for current_iter in range(resume.start_iter + 1, run.total_iter + 1):
            began = time.monotonic()
            batch = next(batches)
            waited = time.monotonic() - began
            model.update_learning_rate(current_iter, warmup_iter=opt["train"].get("warmup_iter", -1))
            model.feed_data(batch)
            model.optimize_parameters(current_iter)
            numbers = dict(model.get_current_log())
            progress.count(current_iter, time.monotonic() - began, waited, numbers)

            epoch = (current_iter * samples - 1) // len(train_loader.dataset)
            run.log(epoch, current_iter, numbers, progress)
            run.validate(current_iter)
            stopped = stop.agreed(opt["dist"])
            # After the validation, so that a state knows the best result of its own iteration.
            run.save(epoch, current_iter, asked=stopped)
            if stopped and current_iter < run.total_iter:
                logger.warning(
                    f"Stopped by {stop.signal_name or 'a signal to another process'} after iteration {current_iter}, "
                    "which is saved; the same command with --auto_resume goes on from it."
                )
                return STOPPED_BY_SIGNAL
    run.finish()
    return 0


class _Run:
    """What happens around the training step: logging, validation, saving."""

    def __init__(
        self, opt: dict[str, Any], model: Any, val_loaders: list[Any], start_iter: int, tb_logger: Any, logger: Any
    ) -> None:
        self.opt, self.model, self.val_loaders = opt, model, val_loaders
        self.start_iter, self.tb_logger, self.logger = start_iter, tb_logger, logger
        self.total_iter = int(opt["train"]["total_iter"])
        self.folder = Path(opt["path"]["experiments_root"])
        self.is_main = opt["rank"] == 0
        self.csv_logs: dict[str, RunLog] = {}

    def log(self, epoch: int, current_iter: int, numbers: dict[str, float], progress: Progress) -> None:
        """Losses, learning rates and speed, every `print_freq` iterations."""
        if current_iter % self.opt["logger"]["print_freq"]:
            return
        learning_rates = self.model.get_current_learning_rate()
        self._add_to_csv("train.csv", {"iter": current_iter, "epoch": epoch, "lr": learning_rates[0], **numbers})
        progress.line(epoch, current_iter, learning_rates, numbers)

    def validate(self, current_iter: int) -> None:
        """Every validation set, every `val_freq` iterations and after the last one."""
        val = self.opt.get("val")
        if not val or not (current_iter % val["val_freq"] == 0 or current_iter == self.total_iter):
            return
        for loader in self.val_loaders:
            self.model.validation(loader, current_iter, self.tb_logger, val["save_img"])
            results = getattr(self.model, "metric_results", None)
            if results:
                self._keep_best(loader.dataset.opt["name"], current_iter)
                self._add_to_csv(f"val_{loader.dataset.opt['name']}.csv", {"iter": current_iter, **results})

    def save(self, epoch: int, current_iter: int, *, asked: bool) -> None:
        """Networks and training state, every `save_checkpoint_freq` iterations, after the last one, and when asked."""
        if not asked and current_iter % self.opt["logger"]["save_checkpoint_freq"] and current_iter != self.total_iter:
            return
        self.logger.info("Saving models and training states.")
        self.model.save(epoch, current_iter)
        if self.opt["logger"].get("keep_last") and self.is_main:
            states.keep_last(self.opt, self.opt["logger"]["keep_last"])

    def finish(self) -> None:
        """Save the networks as `latest` and close the logs."""
        self.logger.info("End of training; saving the latest model.")
        self.model.save(epoch=-1, current_iter=-1)
        if self.tb_logger:
            self.tb_logger.close()
        if self.is_main:
            self.logger.info(summarise(self.folder, (self.opt.get("val") or {}).get("metrics") or {}))

    def _keep_best(self, set_name: str, current_iter: int) -> None:
        """Save the networks as `best` when the first validation set's `keep_best` metric is the best so far."""
        metric = self.opt["logger"].get("keep_best")
        if not metric or set_name != self.val_loaders[0].dataset.opt["name"]:
            return
        if self.model.best_metric_results[set_name][metric]["iter"] == current_iter:
            self.model.save_networks("best")

    def _add_to_csv(self, name: str, row: dict[str, object]) -> None:
        if not self.is_main:
            return
        if name not in self.csv_logs:
            self.csv_logs[name] = RunLog(self.folder / name, list(row), self.start_iter)
        self.csv_logs[name].add(row)
