"""Complete the content of an option file. No other module changes the options of a run.

BasicSR functions that change the options get a copy.
"""

import os
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from han_arch.opt.check import Problem
from han_arch.opt.kinds import Node, Section, Value, Values, options_of
from han_arch.opt.known import CLOSED_MODELS, CLOSED_SETS, OLD_NAMES, OPTIONS

# Section -> names of the options that `normalise` adds to it. Option files must not contain these options.
ADDED = {
    "": ("is_train", "auto_resume", "root_path", "dist", "rank", "world_size"),
    "datasets:*": ("phase", "scale"),
    "path": ("experiments_root", "results_root", "models", "training_states", "log", "visualization"),
}


@dataclass(frozen=True)
class Place:
    """The rank of this process, and the number of processes of its run."""

    dist: bool = False  # True: torchrun or slurm started the process
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class RunRequest:
    """The settings of a run that come from its command, not from the option file."""

    is_train: bool  # True for `basicsr train`, False for `basicsr test`
    root: Path  # folder in which a training creates experiments/ and tb_logger/, and a test creates results/
    overrides: tuple[str, ...] = ()  # the flag --force_yml
    auto_resume: bool = False
    debug: bool = False
    place: Place = Place()


def normalise(content: dict[str, Any], request: RunRequest) -> tuple[dict[str, Any], list[Problem]]:
    """Return the complete options of a run, and a Problem for each option that has an old name or is in `ADDED`.

    `content` may contain any mistake; this function does not change `content`. If `load.find_problems` finds no error:

    - all options have their current names, and whole numbers are ints (`5e3` becomes 5000);
    - `num_gpu` is the number of GPUs that the run uses, at most the number of GPUs in this machine;
    - `manual_seed` is a number;
    - the options that BasicSR's `parse_options` adds are present (see `ADDED`);
    - `path` is a dict, and `~` in the paths of checkpoints and data sets is replaced by the home folder;
    - with `--debug`, the name of the run starts with `debug`. Such a run logs every iteration, and validates and saves
      every 8 iterations, like BasicSR's debug mode.
    """
    opt = deepcopy(content)
    problems = [*_rename_old(opt), *_added_by_hand(opt)]
    opt = _with_whole_numbers(opt, OPTIONS)
    if OPTIONS.keys["num_gpu"].accepts(opt.get("num_gpu")):
        available = torch.cuda.device_count()
        # BasicSR's own option files set num_gpu to 1, and BasicSR fails with such a file on a machine without a GPU.
        opt["num_gpu"] = available if isinstance(opt["num_gpu"], str) else min(opt["num_gpu"], available)
    if opt.get("manual_seed") is None:
        opt["manual_seed"] = random.randint(1, 10000)  # a distributed run uses the largest seed of its processes
    _add_request(opt, request)
    for where, dataset in find_sections(opt, "datasets:*"):
        dataset["phase"] = where.partition(":")[2].split("_")[0]
        if "scale" in opt:
            dataset["scale"] = opt["scale"]
        _expand_user(dataset, "dataroot_gt", "dataroot_lq")
    if opt.get("path") is None:
        opt["path"] = {}
    for _, paths in find_sections(opt, "path"):
        _expand_user(paths, *(key for key in paths if "resume_state" in str(key) or "pretrain_network" in str(key)))
        paths |= _output_paths(opt.get("name"), request)
    return opt, problems


def without_added(opt: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of the options of a run, without the options that `normalise` adds (see `ADDED`)."""
    own = deepcopy(opt)
    for pattern, names in ADDED.items():
        for _, section in find_sections(own, pattern):
            for name in names:
                if name != "scale" or "scale" in own:  # without a top-level scale, the data set has its own
                    section.pop(name, None)
    return own


def find_sections(opt: dict[str, Any], pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the content of each section that matches a pattern. Skip sections that are not mappings.

    In a pattern such as `datasets:*`, the `*` matches every name. An empty pattern matches all options as one section.
    """
    found: list[tuple[str, Any]] = [("", opt)]
    for part in filter(None, pattern.split(":")):
        found = [
            (f"{where}:{key}".removeprefix(":"), section[key])
            for where, section in found
            for key in (section if part == "*" else [part])
            if isinstance(section.get(key), dict)
        ]
    yield from found


def _rename_old(opt: dict[str, Any]) -> Iterator[Problem]:
    for pattern, new in OLD_NAMES.items():
        parent, _, old = pattern.rpartition(":")
        for where, section in find_sections(opt, parent):
            if _reads_table_only(opt, where, section) and old in section and new not in section:
                section[new] = section.pop(old)
                yield Problem(where, f":{old} is the old name of {new} and still works; use the new name", warning=True)


def _added_by_hand(opt: dict[str, Any]) -> Iterator[Problem]:
    for pattern, names in ADDED.items():
        for where, section in find_sections(opt, pattern):
            for name in names:
                if name in section and _reads_table_only(opt, where, section):
                    path = f"{where}:{name}".removeprefix(":")
                    yield Problem(path, ": remove this option from the file, because the command sets it")


def _reads_table_only(opt: dict[str, Any], where: str, section: dict[str, Any]) -> bool:
    """Return True if only options in the table OPTIONS are read from the section, False if others may be read too."""
    if where.startswith("datasets"):
        return section.get("type") in CLOSED_SETS
    return opt.get("model_type") in CLOSED_MODELS


def _with_whole_numbers(value: Any, node: Node | None) -> Any:
    if isinstance(node, Section) and isinstance(value, dict):
        keys = options_of(node, value).keys
        return {key: _with_whole_numbers(item, keys.get(key) or node.other(key)) for key, item in value.items()}
    if isinstance(node, Values) and isinstance(value, list):
        return [_with_whole_numbers(item, node.item) for item in value]
    whole = isinstance(node, Value) and node.kind == "whole" and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _add_request(opt: dict[str, Any], request: RunRequest) -> None:
    opt |= {"is_train": request.is_train, "auto_resume": request.auto_resume, "root_path": str(request.root)}
    opt |= vars(request.place)
    name = opt.get("name")
    if request.debug and isinstance(name, str) and not name.startswith("debug"):
        opt["name"] = f"debug_{name}"
    if request.is_train and "debug" in str(opt.get("name")):
        for _, logger in find_sections(opt, "logger"):
            logger |= {"print_freq": 1, "save_checkpoint_freq": 8}
        for _, val in find_sections(opt, "val"):
            val["val_freq"] = 8


def _expand_user(section: dict[str, Any], *names: str) -> None:
    for name in names:
        if isinstance(section.get(name), str):
            section[name] = os.path.expanduser(section[name])


def _output_paths(name: Any, request: RunRequest) -> dict[str, str]:
    folder = request.root / ("experiments" if request.is_train else "results") / str(name)
    others = ("results_root",) if request.is_train else ("experiments_root", "models", "training_states")
    inside = ("models", "training_states", "visualization")
    return {key: str(folder / key if key in inside else folder) for key in ADDED["path"] if key not in others}
