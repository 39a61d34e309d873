"""Start of `basicsr train` and `basicsr test`: load plugins, check options, connect processes, run."""

import argparse
import sys
from pathlib import Path
from typing import Any

from han_arch import compat
from han_arch.data import loading
from han_arch.errors import UserError, printable
from han_arch.files import clear_refusal
from han_arch.models import REFUSED_WRITE
from han_arch.opt import load, read
from han_arch.opt.normalise import RunRequest
from han_arch.registration import register
from han_arch.training import loop, processes, records, resume
from han_arch.version import __version__


def run(args: argparse.Namespace, *, is_train: bool) -> int:
    """Run `basicsr train` or `basicsr test` in the current folder; with `--check`, only check and print the options.

    Returns:
        The exit status: 0 when all is done; 3 when a signal stopped the training and its state is saved.

    Raises:
        UserError: BasicSR cannot be imported, an option is wrong, the training state does not fit, another process
            runs with the same name, or the disk is full.
    """
    compat.require_basicsr()
    loading.install()
    plugins = load_plugins()
    path = read.find(args.opt)
    request = RunRequest(
        is_train=is_train,
        root=Path.cwd(),
        overrides=tuple(args.force_yml),
        auto_resume=args.auto_resume,
        debug=args.debug,
        place=processes.find_place("none" if args.check else args.launcher),
    )
    opt, warnings = load.load(path, request)
    if args.check:
        start = resume.find(opt) if is_train else resume.Resume()
        if start.state is None:
            resume.check_pretrained(opt)
        for warning in [*warnings, *start.notes]:
            sys.stderr.write(f"basicsr: warning: {printable(warning)}\n")
        resumes = f"resume after iteration {start.start_iter} and " if start.start_iter else ""
        log = printable(opt["path"]["log"])
        sys.stdout.write(f"# {printable(path)}: no problem; the run would {resumes}write to {log}\n")
        sys.stdout.write(load.as_file(opt))
        return 0

    from basicsr.utils import set_random_seed

    from han_arch.models.any_network import load_weights
    from han_arch.models.validation import write_image

    why = "damaged files, weights with nan and the prefixes of torch.compile and Lightning are not handled"
    compat.replace("basicsr.models.base_model", "BaseModel.load_network", load_weights, why)
    why = "OpenCV crashes if the name of a file is not UTF-8"
    compat.replace("basicsr.models.sr_model", "imwrite", write_image, why)
    environment = _environment(plugins)
    args.opt = str(path)  # `loop.train` copies this file
    processes.join(args.launcher, opt.get("dist_params") or {})
    try:
        # With `manual_seed: ~` each process has drawn its own seed. All need the same seed, to divide the samples.
        opt = {**opt, "manual_seed": processes.largest(opt["manual_seed"])}
        set_random_seed(opt["manual_seed"] + opt["rank"])
        if not is_train:
            with processes.owning(Path(opt["path"]["results_root"]), f"the test {opt['name']}"):
                resume.check_pretrained(opt)
                _test(opt, "\n".join([environment, *(f"Warning: {warning}" for warning in warnings)]))
            return 0
        folder = Path(opt["path"]["experiments_root"])
        with (
            clear_refusal(folder, REFUSED_WRITE, no_room_only=True),
            processes.owning(folder, f"the training {opt['name']}"),
            processes.noticing_lost_processes(),
        ):
            return loop.train(opt, args, environment, warnings)
    finally:
        processes.leave()


def load_plugins() -> dict[str, str]:
    """Load all installed BasicSR plugins, and return the name and version of each package, keyed by plugin name.

    A plugin is a function that a package declares as an entry point in the group `basicsr.plugins`. The function
    registers the networks, models and data sets of this package.

    Raises:
        UserError: a plugin cannot be loaded.
    """
    loaded = {}
    for entry, origin in compat.plugins():
        try:
            entry.load()()
        except Exception as error:
            problem = f"cannot load the BasicSR plugin {entry.name!r} ({origin}): {type(error).__name__}: {error}"
            raise UserError(f"{problem}; fix or uninstall {origin}") from error
        loaded[entry.name] = origin
    if "han_arch" not in loaded:  # han_arch is not installed but runs from a checkout
        register()
        loaded["han_arch"] = f"han_arch {__version__}"
    return loaded


def _test(opt: dict[str, Any], environment: str) -> None:
    import basicsr.test

    def replace(attribute: str, result: Any, why: str) -> None:
        compat.replace("basicsr.test", attribute, lambda *arguments, **settings: result, why)

    replace("parse_options", (opt, None), "BasicSR's YAML loader and --force_yml can run code from an option file")
    replace("get_env_info", environment, "the log also lists the plugins and the changes to other packages")
    why = "the log can hold every file name, and a full disk is reported in one line"
    compat.replace("basicsr.test", "get_root_logger", records.open_log, why)
    basicsr.test.test_pipeline(opt["root_path"])


def _environment(plugins: dict[str, str]) -> str:
    import torch
    import torchvision

    versions = f"PyTorch {torch.__version__}, TorchVision {torchvision.__version__}"
    lines = [
        f"BasicSR {compat.installed_version('basicsr')}, {versions}",
        f"Plugins: {', '.join(plugins.values())}",
        "Changes to other packages:",
        *(f"  {where}: {why}" for where, why in compat.changes().items()),
    ]
    return "\n".join(lines)
