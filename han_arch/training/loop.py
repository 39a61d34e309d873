"""The training run: BasicSR's data sets, models, message logger and option format around a loop that can be resumed.

It stands in for `basicsr.train.train_pipeline`, whose loop ends early when batches do not divide the set, opens data
workers anew each epoch, and goes on from a training state in another way than an uninterrupted run.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from han_arch.errors import UserError
from han_arch.training import checkpoint, options
from han_arch.training.loaders import build_loaders
from han_arch.training.run_log import RunLog
from han_arch.training.stopping import StopRequest
from han_arch.training.summary import summarise

STOPPED_BY_SIGNAL = 3


def train(opt: dict[str, Any], args: argparse.Namespace, environment: str) -> int:
    """Train as the options say, from the start or from a training state.

    Args:
        opt: checked options, `dist`, `rank` and `world_size` among them.
        args: the command's flags: `opt`, the option file, and `fresh`.
        environment: what the log says of versions and plugins.

    Returns:
        0 when all iterations are done, 3 when a signal ended the run after saving.

    Raises:
        UserError: nothing could be trained with these options, or a run of that name could be resumed and neither
            `--auto_resume` nor `--fresh` says what to do with it.
    """
    from basicsr.models import build_model
    from basicsr.train import init_tb_loggers

    as_file = options.as_file(opt)  # before a resume names its networks in it
    resume = checkpoint.find(opt)
    _prepare_folders(opt, resume, fresh=args.fresh)
    if opt["rank"] == 0:
        _keep_options(opt, args, as_file)
    logger = _start_log(opt, environment, resume)
    train_loader, val_loaders = build_loaders(opt, resume.start_iter, logger)
    model = build_model(opt)
    run = _Run(opt, model, val_loaders, resume.start_iter, init_tb_loggers(opt), logger)
    batches = iter(train_loader)
    if resume.state is not None:
        model.resume_training(resume.state)  # after the loaders, which draw from torch's generator
        logger.info(f"Resuming training from epoch: {resume.state['epoch']}, iter: {resume.start_iter}.")

    samples_per_iter = train_loader.batch_size * opt["world_size"]
    with StopRequest() as stop:
        for current_iter in range(resume.start_iter + 1, run.total_iter + 1):
            run.data_timer.start()
            run.iter_timer.start()
            batch = next(batches)
            run.data_timer.record()
            model.update_learning_rate(current_iter, warmup_iter=opt["train"].get("warmup_iter", -1))
            model.feed_data(batch)
            model.optimize_parameters(current_iter)
            run.iter_timer.record()

            epoch = (current_iter * samples_per_iter - 1) // len(train_loader.dataset)
            run.log(epoch, current_iter)
            run.validate(current_iter)
            # After the validation, so that a state knows the best result of its own iteration.
            run.save(epoch, current_iter, asked=stop.signal_name is not None)
            if stop.signal_name and current_iter < run.total_iter:
                logger.warning(
                    f"Stopped by {stop.signal_name} after iteration {current_iter}, which is saved; "
                    "the same command with --auto_resume goes on from it."
                )
                return STOPPED_BY_SIGNAL
    run.finish()
    return 0


class _Run:
    """What happens around the training step: logging, validation, saving."""

    def __init__(
        self, opt: dict[str, Any], model: Any, val_loaders: list[Any], start_iter: int, tb_logger: Any, logger: Any
    ) -> None:
        from basicsr.utils import AvgTimer, MessageLogger

        self.opt, self.model, self.val_loaders = opt, model, val_loaders
        self.start_iter, self.tb_logger, self.logger = start_iter, tb_logger, logger
        self.total_iter = int(opt["train"]["total_iter"])
        self.folder = Path(opt["path"]["experiments_root"])
        self.is_main = opt["rank"] == 0
        self.message_logger = MessageLogger(opt, start_iter, tb_logger)
        self.data_timer, self.iter_timer = AvgTimer(), AvgTimer()
        self.csv_logs: dict[str, RunLog] = {}

    def log(self, epoch: int, current_iter: int) -> None:
        """Losses, learning rates and times, every `print_freq` iterations."""
        if current_iter % self.opt["logger"]["print_freq"]:
            return
        losses = dict(self.model.get_current_log())
        learning_rates = self.model.get_current_learning_rate()
        self._add_to_csv("train.csv", {"iter": current_iter, "epoch": epoch, "lr": learning_rates[0], **losses})
        times = {"time": self.iter_timer.get_avg_time(), "data_time": self.data_timer.get_avg_time()}
        self.message_logger({"epoch": epoch, "iter": current_iter, "lrs": learning_rates, **times, **losses})

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
            checkpoint.keep_last(self.opt, self.opt["logger"]["keep_last"])

    def finish(self) -> None:
        """Save the networks as `latest` and close the logs."""
        self.logger.info("End of training; saving the latest model.")
        self.model.save(epoch=-1, current_iter=-1)
        if self.tb_logger:
            self.tb_logger.close()
        if self.is_main:
            self.logger.info(summarise(self.folder))

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


def _prepare_folders(opt: dict[str, Any], resume: checkpoint.Resume, *, fresh: bool) -> None:
    from basicsr.utils import make_exp_dirs, mkdir_and_rename

    if resume.state is not None:
        for key in ("experiments_root", "models", "training_states", "visualization"):
            os.makedirs(opt["path"][key], exist_ok=True)
        return
    done = checkpoint.saved_iterations(opt)
    if done and done[0] < int(opt["train"]["total_iter"]) and not fresh:
        raise UserError(
            f"{opt['path']['experiments_root']} holds a run that was stopped at iteration {done[0]}; "
            "add --auto_resume to go on from there, or --fresh to set it aside and start anew"
        )
    if opt["rank"] == 0:
        make_exp_dirs(opt)
        if opt["logger"].get("use_tb_logger") and "debug" not in opt["name"]:
            mkdir_and_rename(os.path.join(opt["root_path"], "tb_logger", opt["name"]))


def _keep_options(opt: dict[str, Any], args: argparse.Namespace, as_file: str) -> None:
    """Copy the option file into the experiment, as BasicSR does; what `--force_yml` changed stands in it too."""
    from basicsr.utils.options import copy_opt_file

    copy_opt_file(args.opt, opt["path"]["experiments_root"])
    if args.force_yml:
        copy = Path(opt["path"]["experiments_root"]) / Path(args.opt).name
        command = copy.read_text("utf-8").splitlines()[:3]  # when and how, as comments
        copy.write_text("\n".join([*command, "", as_file]), "utf-8")


def _start_log(opt: dict[str, Any], environment: str, resume: checkpoint.Resume) -> logging.Logger:
    from basicsr.utils import get_root_logger, get_time_str
    from basicsr.utils.options import dict2str

    log_file = os.path.join(opt["path"]["log"], f"train_{opt['name']}_{get_time_str()}.log")
    logger: logging.Logger = get_root_logger(log_level=logging.INFO, log_file=log_file)
    logger.info(environment)
    logger.info(dict2str(opt))
    for note in resume.notes:
        logger.warning(note)
    return logger
