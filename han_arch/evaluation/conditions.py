"""Under which conditions a number came about: commit, command, device, versions, date."""

import datetime
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

import han_arch


def describe(device: torch.device) -> dict[str, str]:
    """The conditions of this process, each a short text."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "command": shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]),
        "device": _device_name(device),
        "versions": f"han_arch {han_arch.__version__}, torch {torch.__version__}",
    }


def commit() -> str:
    """The commit of the checkout that the package runs from, with "+" when files differ from it; "" without one."""
    folder = Path(han_arch.__file__).parent
    # A package in site-packages of a virtual environment inside some other checkout is not of that checkout.
    tracked = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    if tracked is None:
        return ""
    head, changed = _git(folder, "rev-parse", "--short=12", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
    return f"{head or ''}{'+' if changed else ''}"


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.get_num_threads()} threads"


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
