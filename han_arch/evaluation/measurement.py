"""A measurement of one image: its score, the conditions it was made under, and the cache on disk."""

import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from han_arch import files
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.evaluation.sets import load_rgb_or_grey
from han_arch.images.write import encode_png
from han_arch.version import __version__


@dataclass(frozen=True)
class MeasuredImage:
    """The score of one image and the conditions it was measured under, see `describe_conditions`."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file and a PNG file for each measured image.

    An interrupted board continues from it, and only a new contestant is measured.

    Args:
        folder: made by the first `store`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """Return the name of a measurement: a hash of weights and options, variant, protocol and pixels."""
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> MeasuredImage | None:
        """Load a measurement; None where it is missing or damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if not self.picture(key).is_file():
                return None
            score = Score(float(stored["psnr"]), float(stored["ssim"]), protocol)
            return MeasuredImage(score, dict(stored["conditions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, key: str, measurement: MeasuredImage, sr: np.ndarray) -> None:
        """Write a measurement and its image, uint8, (h, w) or (h, w, 3) RGB."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.picture(key), encode_png(sr))
        score = measurement.score
        text = json.dumps({"psnr": score.psnr, "ssim": score.ssim, "conditions": measurement.conditions})
        files.write(self.folder / f"{key}.json", text)

    def load_value(self, key: str, metric: str) -> float | None:
        """Load an optional metric of the image; None where it is missing."""
        try:
            return float((self.folder / f"{key}.{metric}.txt").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def store_value(self, key: str, metric: str, value: float) -> None:
        """Write an optional metric of the image."""
        files.write(self.folder / f"{key}.{metric}.txt", repr(value))

    def picture(self, key: str) -> Path:
        """Return the path of the SR image."""
        return self.folder / f"{key}.png"

    def load_picture(self, key: str) -> np.ndarray:
        """Load the SR image: uint8, (h, w) or (h, w, 3) RGB."""
        return load_rgb_or_grey(self.picture(key))


def describe_conditions(device: torch.device) -> dict[str, str]:
    """Describe this process in short texts: date, commit, command, device, versions."""
    gpu = device.type == "cuda"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "command": shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]]),
        "device": torch.cuda.get_device_name(device) if gpu else f"{cpu_name()}, {torch.get_num_threads()} threads",
        "versions": f"han_arch {__version__}, torch {torch.__version__}",
    }


def commit() -> str:
    """Return the commit of the package's checkout, with "+" when files differ from it; "" without a checkout."""
    folder = Path(__file__).parents[1]
    # A package in site-packages may lie inside the checkout of another project, which does not track it.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head, changed = _git(folder, "rev-parse", "--short=12", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
    return f"{head or ''}{'+' if changed else ''}"


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
