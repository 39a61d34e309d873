"""The cache of measured images: an interrupted board continues, and only a new contestant is measured."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from han_arch import files
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.evaluation.sets import load_rgb_or_grey
from han_arch.images.strict import encode_png


@dataclass(frozen=True)
class Measurement:
    """The score of one image and the conditions it was measured under (commit, command, device, versions, date)."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file and a PNG file for each measured image.

    Args:
        folder: made by the first `store`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """Return the name of a measurement: a hash of all that decides it."""
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> Measurement | None:
        """Load a measurement; None where it is missing or damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if not self.picture(key).is_file():
                return None
            score = Score(float(stored["psnr"]), float(stored["ssim"]), protocol)
            return Measurement(score, dict(stored["conditions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, key: str, measurement: Measurement, sr: np.ndarray) -> None:
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
