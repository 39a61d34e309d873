"""Results of single images on disk, so that an interrupted board continues and a new model alone is measured."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score, load_rgb_or_grey
from han_arch.images.strict import encode_png


@dataclass(frozen=True)
class Entry:
    """One measured image: its score and the conditions it was measured under (commit, command, device, date)."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file of each result and a PNG file of each image.

    Args:
        folder: made when the first result is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """The name of a result, a function of all that decides it."""
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> Entry | None:
        """The stored result; None where there is none or it is damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if not self.picture(key).is_file():
                return None
            return Entry(Score(float(stored["psnr"]), float(stored["ssim"]), protocol), dict(stored["conditions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, key: str, entry: Entry, sr: np.ndarray) -> None:
        """Write a result and its image (uint8, (h, w) or (h, w, 3) RGB)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.picture(key), encode_png(sr))
        text = json.dumps({"psnr": entry.score.psnr, "ssim": entry.score.ssim, "conditions": entry.conditions})
        _write(self.folder / f"{key}.json", text.encode())

    def load_value(self, key: str, metric: str) -> float | None:
        """A stored value of another metric of the image; None where there is none."""
        try:
            return float((self.folder / f"{key}.{metric}.txt").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def store_value(self, key: str, metric: str, value: float) -> None:
        """Write a value of another metric of the image."""
        _write(self.folder / f"{key}.{metric}.txt", repr(value).encode())

    def picture(self, key: str) -> Path:
        """Where the image of a result lies."""
        return self.folder / f"{key}.png"

    def load_picture(self, key: str) -> np.ndarray:
        """The image of a result, uint8, (h, w) or (h, w, 3) RGB."""
        return load_rgb_or_grey(self.picture(key))


def _write(path: Path, data: bytes) -> None:
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    beside.write_bytes(data)
    beside.replace(path)
