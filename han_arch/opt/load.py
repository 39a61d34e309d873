"""From an option file to a run's options: what BasicSR's `parse_options` does, checked before anything is built."""

import copy
import os
import random
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.opt import check, paths, read, registered, rules
from han_arch.opt.check import Problem
from han_arch.opt.kinds import Section

OUTPUT_PATHS = ("experiments_root", "results_root", "models", "training_states", "log", "visualization")


def load(
    path: Path, *, is_train: bool, root: Path, overrides: list[str], auto_resume: bool = False, debug: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Read an option file and complete it as BasicSR's `parse_options` does, without the distributed part.

    Args:
        path: the option file.
        is_train: for `basicsr train`; else for `basicsr test`.
        root: folder that gets experiments/ and tb_logger/, or results/.
        overrides: `--force_yml` entries.
        auto_resume: `--auto_resume`.
        debug: `--debug`: the name gains `debug_`, which BasicSR takes for a switch.

    Needs BasicSR imported and the plugins loaded.

    Returns:
        The options, checked, and what is odd about them but usable.

    Raises:
        UserError: the file or an override is wrong; all problems, one a line.
    """
    opt = read.read(path)
    read.override(opt, overrides, _known)
    problems = find_problems(opt, is_train=is_train)
    _refuse(problems, path)
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    opt["is_train"] = is_train
    opt["auto_resume"] = auto_resume
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = random.randint(1, 10000)
    for key, dataset in opt["datasets"].items():
        dataset["phase"] = key.split("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        for root_key in ("dataroot_gt", "dataroot_lq"):
            if dataset.get(root_key) is not None:
                dataset[root_key] = os.path.expanduser(dataset[root_key])
    opt["path"] = opt.get("path") or {}
    for key, value in opt["path"].items():
        if value is not None and ("resume_state" in key or "pretrain_network" in key):
            opt["path"][key] = os.path.expanduser(value)
    _add_output_paths(opt, root)
    return opt, [str(problem) for problem in problems if problem.warning]


def find_problems(opt: dict[str, Any], *, is_train: bool) -> list[Problem]:
    """Everything that is wrong with an option file's content, in the order of the file's sections within each check.

    Needs BasicSR imported and the plugins loaded. The network is built and thrown away, which draws random numbers. Old
    names of options become today's, 5e3 becomes 5000 and num_gpu a number that this machine has, in place.

    Args:
        opt: the content.
        is_train: for `basicsr train`; else for `basicsr test`.
    """
    problems = check.rename_old(opt) + check.check_options(opt, is_train=is_train)
    if opt.get("num_gpu") is not None and not any(problem.where == "num_gpu" for problem in problems):
        opt["num_gpu"] = _available_gpus(opt["num_gpu"])
    problems += paths.check_files(opt)
    problems += rules.cross_check({**opt, "is_train": is_train}, problems)
    if not any(problem.where.startswith("network_g") and not problem.warning for problem in problems):
        problems += _try_network(opt.get("network_g"))
    return problems


def as_file(opt: dict[str, Any]) -> str:
    """The options of a run as the text of an option file that gives the same run."""
    of_the_process = ("is_train", "auto_resume", "root_path", "dist", "rank", "world_size")
    own = copy.deepcopy({key: value for key, value in opt.items() if key not in of_the_process})
    for dataset in own["datasets"].values():
        del dataset["phase"]
        if "scale" in own:
            del dataset["scale"]
    own["path"] = {key: value for key, value in own["path"].items() if key not in OUTPUT_PATHS}
    return read.dump(own)


def _known(opt: dict[str, Any], keys: list[str]) -> dict[str, bool]:
    return {name: isinstance(node, Section) for name, node in check.known_at(opt, keys).items()}


def _try_network(network: Any) -> list[Problem]:
    if not isinstance(network, dict):
        return []  # a problem already
    arguments = {key: value for key, value in network.items() if key != "type"}
    try:
        registered.entries("network")[network["type"]](**arguments)
    except Exception as error:  # whatever a constructor of another package raises for such arguments
        return [Problem("network_g", f": {network['type']} cannot be built: {error}")]
    squeeze, features = arguments.get("squeeze_factor"), arguments.get("num_feat")
    if isinstance(squeeze, int) and isinstance(features, int) and squeeze > features:
        return [Problem("network_g:squeeze_factor", f" must be at most num_feat, {features}; got {squeeze}")]
    return []


def _refuse(problems: list[Problem], path: Path) -> None:
    """Raise for all that are no mere warnings."""
    errors = list(dict.fromkeys(str(problem) for problem in problems if not problem.warning))
    if len(errors) == 1:
        raise UserError(f"{path}: {errors[0]}")
    if errors:
        raise UserError("\n  ".join([f"{path} has {len(errors)} problems:", *errors]))


def _available_gpus(wanted: int | str) -> int:
    available = torch.cuda.device_count()
    # Upstream's option files say num_gpu: 1; BasicSR fails on them where there is no GPU.
    return available if isinstance(wanted, str) else min(wanted, available)


def _add_output_paths(opt: dict[str, Any], root: Path) -> None:
    if not opt["is_train"]:
        results = root / "results" / opt["name"]
        opt["path"] |= {
            "results_root": str(results),
            "log": str(results),
            "visualization": str(results / "visualization"),
        }
        return
    experiment = root / "experiments" / opt["name"]
    opt["path"] |= {
        "experiments_root": str(experiment),
        "models": str(experiment / "models"),
        "training_states": str(experiment / "training_states"),
        "log": str(experiment),
        "visualization": str(experiment / "visualization"),
    }
    if "debug" in opt["name"]:
        opt["logger"]["print_freq"] = 1
        opt["logger"]["save_checkpoint_freq"] = 8
        if opt.get("val"):
            opt["val"]["val_freq"] = 8
