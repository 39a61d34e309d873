"""From an option file to a run's options: what BasicSR's `parse_options` does, checked before anything is built."""

import difflib
import os
import random
import re
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.training import yaml_options

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


def load(
    path: Path, *, is_train: bool, root: Path, overrides: list[str], auto_resume: bool = False, debug: bool = False
) -> dict[str, Any]:
    """Read an option file and complete it as BasicSR's `parse_options` does, without the distributed part.

    Args:
        path: the option file.
        is_train: for `basicsr train`; else for `basicsr test`.
        root: folder that gets experiments/ and tb_logger/, or results/.
        overrides: `--force_yml` entries.
        auto_resume: `--auto_resume`.
        debug: `--debug`: the name gains `debug_`, which BasicSR takes for a switch.

    Returns:
        The options, checked.

    Raises:
        UserError: the file or an override is wrong.
    """
    opt = yaml_options.read(path)
    yaml_options.override(opt, overrides)
    require_keys(opt, is_train)
    if debug and not opt["name"].startswith("debug"):
        opt["name"] = f"debug_{opt['name']}"
    opt["is_train"] = is_train
    opt["auto_resume"] = auto_resume
    opt["num_gpu"] = _available_gpus(opt["num_gpu"])
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
    check_files(opt)
    return opt


def require_keys(opt: dict[str, Any], is_train: bool) -> None:
    """Check that what every run needs is there, where BasicSR fails after it has built or moved things.

    Raises:
        UserError: a key is missing or its value unusable.
    """
    needed = ["name", "model_type", "num_gpu", "datasets", "network_g"]
    needed += ["train", "logger"] if is_train else ["val"]
    missing = [key for key in needed if opt.get(key) is None]
    if missing:
        raise UserError(f"the option file lacks {', '.join(missing)}; see `basicsr options list` for complete files")
    if not isinstance(opt["name"], str) or not NAME_PATTERN.fullmatch(opt["name"]):
        raise UserError(f"name must be letters, digits and _ . + - only, it names a folder; got {opt['name']!r}")
    for key in ("datasets", "network_g", "logger", "train", "val", "path"):
        if opt.get(key) is not None and not isinstance(opt[key], dict):
            raise UserError(f"{key} must be a mapping; got {opt[key]!r}")
    if is_train and not isinstance(opt["datasets"].get("train"), dict):
        raise UserError(f"datasets needs a train entry; got {', '.join(opt['datasets']) or 'none'}")
    for name, dataset in opt["datasets"].items():
        if not isinstance(dataset, dict) or not isinstance(dataset.get("type"), str):
            raise UserError(f"datasets:{name} must be a mapping with a type; got {dataset!r}")
    if not isinstance(opt["network_g"].get("type"), str):
        raise UserError(f"network_g needs a type, such as HAN; got {opt['network_g']!r}")
    if opt.get("val") is not None and "save_img" not in opt["val"]:
        raise UserError("val needs save_img: true or false; BasicSR asks for it at the first validation")


def check_names(opt: dict[str, Any]) -> None:
    """Check names against BasicSR's registries and the network's arguments against its constructor.

    Needs BasicSR imported and the plugins loaded. The network is built and thrown away, which draws random numbers.

    Raises:
        UserError: an unknown name, with the closest known one; or what the network's constructor says.
    """
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

    named = [
        ("model_type", opt["model_type"], MODEL_REGISTRY),
        ("network_g:type", opt["network_g"]["type"], ARCH_REGISTRY),
    ]
    named += [(f"datasets:{key}:type", value["type"], DATASET_REGISTRY) for key, value in opt["datasets"].items()]
    metrics = (opt.get("val") or {}).get("metrics") or {}
    named += [(f"val:metrics:{key}:type", value["type"], METRIC_REGISTRY) for key, value in metrics.items()]
    for where, name, registry in named:
        known = list(registry.keys())
        # BasicSR looks a name up with this suffix too.
        if name not in known and f"{name}_basicsr" not in known:
            close = difflib.get_close_matches(str(name), known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
            raise UserError(f"{where}: nothing named {name!r} is registered; {hint}")

    arguments = {key: value for key, value in opt["network_g"].items() if key != "type"}
    archs = dict(iter(ARCH_REGISTRY))
    network_type = opt["network_g"]["type"]
    try:
        (archs.get(network_type) or archs[f"{network_type}_basicsr"])(**arguments)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"network_g: {network_type} cannot be built: {error}") from error


def check_files(opt: dict[str, Any]) -> None:
    """Check that every file and folder the options name is there, before a run of the same name is archived.

    Raises:
        UserError: all that are missing, one a line.
    """
    named = [
        (f"datasets:{name}:{key}", dataset[key])
        for name, dataset in opt["datasets"].items()
        for key in ("dataroot_gt", "dataroot_lq", "meta_info_file")
        if dataset.get(key) is not None
    ]
    named += [
        (f"path:{key}", value)
        for key, value in opt["path"].items()
        if value is not None and (key.startswith("pretrain_network") or key == "resume_state")
    ]
    missing = [f"{where}: {value!r} does not exist" for where, value in named if not Path(value).exists()]
    if missing:
        hint = "make data sets with `basicsr data prepare`"
        raise UserError("\n  ".join([f"files that the options name, looked for from {Path.cwd()} ({hint}):", *missing]))


def _available_gpus(wanted: Any) -> int:
    available = torch.cuda.device_count()
    if wanted == "auto":
        return available
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 0:
        raise UserError(f"num_gpu must be auto or a whole number from 0; got {wanted!r}")
    # Upstream's option files say num_gpu: 1; BasicSR fails on them where there is no GPU.
    return min(wanted, available)


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
