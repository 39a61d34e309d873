"""Made-up pictures for the tests of the data room."""

from pathlib import Path

import cv2
import numpy as np

from han_arch.data.prepare import CropGrid

GRID = CropGrid(size=48, step=24)
SIZES = {"a": (70, 101), "b": (48, 96), "c": (61, 40), "d": (97, 50), "e": (50, 50)}


def make_picture(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth RGB picture without two equal parts."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB or grey image as PNG by OpenCV, without the package's writer."""
    path.write_bytes(cv2.imencode(".png", image if image.ndim == 2 else image[:, :, ::-1])[1].tobytes())
