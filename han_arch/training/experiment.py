"""The folder of a run: made, an older one set aside, the options kept in it, the log begun."""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from han_arch.errors import UserError
from han_arch.training import resume as states


def prepare_folders(opt: dict[str, Any], resume: states.Resume, *, fresh: bool) -> None:
    """Make the run's folders; an older run of that name is set aside as BasicSR does, unless it is gone on with.

    Raises:
        UserError: it could be gone on with, and neither `--auto_resume` nor `--fresh` (`fresh`) says what to do.
    """
    from basicsr.utils import make_exp_dirs, mkdir_and_rename

    if resume.state is not None:
        for key in ("experiments_root", "models", "training_states", "visualization"):
            os.makedirs(opt["path"][key], exist_ok=True)
        if opt["rank"] == 0:
            remove_half_written(Path(opt["path"]["experiments_root"]))
        return
    done = states.saved_iterations(opt)
    if done and done[0] < int(opt["train"]["total_iter"]) and not fresh:
        raise UserError(
            f"{opt['path']['experiments_root']} holds a run that was stopped at iteration {done[0]}; "
            "add --auto_resume to go on from there, or --fresh to set it aside and start anew"
        )
    if opt["rank"] == 0:
        make_exp_dirs(opt)
        if opt["logger"].get("use_tb_logger") and "debug" not in opt["name"]:
            mkdir_and_rename(os.path.join(opt["root_path"], "tb_logger", opt["name"]))


def remove_half_written(folder: Path) -> None:
    """Remove what a killed process was writing; nobody else writes here now."""
    for pattern in (".*.part", "models/.*.part", "training_states/.*.part"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)


def keep_options(opt: dict[str, Any], args: argparse.Namespace, as_file: str) -> None:
    """Copy the option file into the experiment, as BasicSR does; what `--force_yml` changed stands in it too."""
    from basicsr.utils.options import copy_opt_file

    copy_opt_file(args.opt, opt["path"]["experiments_root"])
    if args.force_yml:
        copy = Path(opt["path"]["experiments_root"]) / Path(args.opt).name
        command = copy.read_text("utf-8").splitlines()[:3]  # when and how, as comments
        copy.write_text("\n".join([*command, "", as_file]), "utf-8")


def start_log(opt: dict[str, Any], environment: str, warnings: list[str], resume: states.Resume) -> logging.Logger:
    """The log, in the experiment and on stderr, with what the run begins with.

    Args:
        opt: the run's options.
        environment: versions and plugins.
        warnings: what the check of the options found odd.
        resume: what the run goes on from.
    """
    from basicsr.utils import get_root_logger, get_time_str
    from basicsr.utils.options import dict2str

    log_file = os.path.join(opt["path"]["log"], f"train_{opt['name']}_{get_time_str()}.log")
    logger: logging.Logger = get_root_logger(log_level=logging.INFO, log_file=log_file)
    logger.info(environment)
    logger.info(dict2str(opt))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            # On a full disk the CSV file that is written with each line says so, once.
            handler.handleError = lambda record: None  # type: ignore[method-assign]
    for note in [*warnings, *resume.notes]:
        logger.warning(note)
    return logger
