"""Networks and photos with known results, for the tests of images, inference and the upscale command."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from han_arch import HAN
from han_arch.inference.plan import MemoryCost

ARGUMENTS = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4}


class Repeat:
    """An engine with a known result: each pixel becomes scale x scale equal ones."""

    name, device, dtype, scale, channels = "repeat", "cpu", "fp32", 2, 3

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda result: result) -> None:
        self.cost = MemoryCost(num_feat=8, maps=9, scale=self.scale, weights=0)
        self.change = change
        self.shapes: list[tuple[int, ...]] = []

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield strips of four LR rows."""
        self.shapes.append(tuple(lq.shape))
        for row in range(0, lq.shape[2], 4):
            part = lq[:, :, row : row + 4]
            yield self.scale * row, self.change(part.repeat_interleave(2, 2).repeat_interleave(2, 3))

    def in_float32(self) -> "Repeat | None":
        """Return None: it is in float32."""
        return None


def tiny_net(**changes: object) -> HAN:
    """Return a small network with effective attention and seeded random weights, in evaluation mode."""
    torch.manual_seed(0)
    net = HAN(**{**ARGUMENTS, "upscale": 2, **changes}).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        net.lam.alpha.fill_(0.3)
        net.csam.beta.fill_(-0.2)
    return net


def save_checkpoint(path: Path, net: HAN) -> Path:
    """Write a network that `tiny_net` made, with its options."""
    options = {"type": "HAN", **ARGUMENTS, "upscale": net.upscale}
    torch.save({"params": net.state_dict(), "network_g": options}, path)
    return path


def photo(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Return an image (h, w, channels) with structure at several scales."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.random((height // step + 2, width // step + 2, channels)), (width, height))
        for step in (2, 5, 13)
    ]
    return (sum(layers) / 3 * np.iinfo(dtype).max).astype(dtype).reshape(height, width, channels)


def repeated(pixels: np.ndarray) -> np.ndarray:
    """Compute the result of `Repeat` independently."""
    return np.kron(pixels, np.ones((2, 2, 1), pixels.dtype))
