"""`basicsr doctor`: print versions, devices, plugins, and every broken part of the installation."""

import argparse
import importlib.util
import platform
import sys

from han_arch import compat
from han_arch.commands import say
from han_arch.compat import installed_version
from han_arch.errors import UserError
from han_arch.version import __version__

EXAMPLES = """examples:
  basicsr doctor

Exit status 0: all required parts work. Exit status 1: at least one line begins with BROKEN."""

REQUIRED = ("torch", "torchvision", "numpy", "opencv-python", "lmdb", "PyYAML", "scipy", "safetensors")
OPTIONAL = ("scikit-image", "matplotlib")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the examples to the help text. The command has no arguments."""
    parser.epilog = EXAMPLES


def run(args: argparse.Namespace) -> int:
    """Print the report. Return 1 if one of its lines begins with BROKEN, otherwise 0."""
    sections = {
        "versions": _versions,
        "devices": _devices,
        "BasicSR": _basicsr,
        "plugins": _plugins,
        "registered by han_arch": _registered,
        "changes in other packages": _changes,
        "option files": _option_files,
        "network": _network,
        "zoo": _zoo,
    }
    broken = 0
    for title, section in sections.items():
        try:
            lines = section()
        except Exception as error:  # a broken installation can raise any exception: print it and continue
            lines = [f"BROKEN {type(error).__name__}: {error}"]
        broken += sum(line.startswith("BROKEN") for line in lines)
        say(title, *(f"  {line}" for line in lines))
    say(f"lines marked BROKEN: {broken}" if broken else "all required parts work")
    return 1 if broken else 0


def _versions() -> list[str]:
    lines = [f"han_arch {__version__}, Python {platform.python_version()}, {platform.platform()}"]
    for name in (*REQUIRED, *OPTIONAL):
        if version := installed_version(name):
            lines.append(f"{name} {version}")
        elif name == "opencv-python" and importlib.util.find_spec("cv2"):
            lines.append("OpenCV is installed, but not from the package opencv-python")
        elif name in OPTIONAL:
            lines.append(f"{name} is not installed (optional)")
        else:
            lines.append(f"BROKEN {name} is not installed; run: pip install {name}")
    boards = [f"{name} {version}" for name in ("tensorboard", "tb-nightly") if (version := installed_version(name))]
    if len(boards) == 2:
        lines.append(
            "BROKEN tensorboard and tb-nightly are both installed and overwrite each other's files; "
            "first run pip uninstall tensorboard tb-nightly, then pip install tb-nightly"
        )
    return lines + boards


def _devices() -> list[str]:
    import torch

    lines = [f"CPU, {torch.get_num_threads()} threads"]
    lines += [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        lines.append("mps")
    if hasattr(torch, "xpu") and torch.xpu.is_available():
        lines.append("xpu")
    return lines


def _basicsr() -> list[str]:
    version = installed_version("basicsr")
    try:
        basicsr = compat.require_basicsr()
    except UserError as error:
        # On Python 3.13 and later a missing BasicSR is not a fault, because the network works without it.
        return [str(error) if sys.version_info >= (3, 13) and version is None else f"BROKEN {error}"]
    line = f"{version} from {basicsr.__file__}"
    return [line if version == "1.4.2" else f"BROKEN {line}; han_arch needs BasicSR 1.4.2"]


def _plugins() -> list[str]:
    lines = []
    for entry, origin in compat.plugins():
        try:
            entry.load()
        except Exception as error:  # a plugin can raise any exception
            lines.append(f"BROKEN {entry.name} ({origin}): {type(error).__name__}: {error}")
        else:
            lines.append(f"{entry.name} ({origin}): {entry.value}")
    if not any(entry.name == "han_arch" for entry, _ in compat.plugins()):
        lines.append("han_arch runs from its source folder (not installed); BasicSR finds the han_arch classes anyway")
    return lines


def _registered() -> list[str]:
    if installed_version("basicsr") is None:
        return ["nothing, because BasicSR is not installed"]
    from han_arch.registration import register

    return [f"{registry}: {', '.join(names)}" for registry, names in register().items()]


def _changes() -> list[str]:
    return [f"{where}: {why}" for where, why in compat.changes().items()] or ["nothing"]


def _option_files() -> list[str]:
    from han_arch.opt import read

    return [f"{len(read.shipped_files())} files in {read.shipped_folder()}"]


def _network() -> list[str]:
    import torch

    from han_arch.archs.han_arch import HAN
    from han_arch.speed.winograd import self_test

    net = HAN(3, 3, num_feat=8, num_group=2, num_block=1, squeeze_factor=4, upscale=2)
    with torch.no_grad():
        out = net(torch.zeros(1, 3, 5, 7))
    if out.shape != (1, 3, 10, 14) or not out.isfinite().all():
        return ["BROKEN the output of a small HAN has a wrong shape or contains nan or inf", self_test()]
    return ["a small HAN upscales 5x7 pixels to 10x14 pixels", self_test()]


def _zoo() -> list[str]:
    from han_arch.files import cache_folder, hash_file
    from han_arch.zoo import store
    from han_arch.zoo.entry import ENTRIES

    shipped = {entry.name: entry for entry in ENTRIES if entry.sha256 and entry.url is None}
    try:
        folder = str(cache_folder())
    except FileNotFoundError as error:
        folder = f"none, because {error}"
    lines = [f"{len(ENTRIES)} networks, {len(shipped)} of them in the package; download folder: {folder}"]
    for name, entry in shipped.items():
        path = store.SHIPPED / entry.file
        if not path.is_file() or hash_file(path) != entry.sha256:
            fault = "damaged" if path.is_file() else "missing"
            lines.append(f"BROKEN {name}: {path} is {fault}; install han_arch again")
    return lines
