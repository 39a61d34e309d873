"""A tiny test set and two tiny networks' checkpoints."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import han_arch

NETWORKS: dict[str, dict[str, Any]] = {
    "HAN": {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1,
            "squeeze_factor": 4, "upscale": 2},
    "EDSR": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2},
}  # fmt: skip


@pytest.fixture
def hr_folder(tmp_path: Path) -> Path:
    """Three HR images a.png, b.png, c.png of odd sizes; c is grey."""
    folder = tmp_path / "HR"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, shape in (("a", (33, 40, 3)), ("b", (40, 47, 3)), ("c", (36, 36))):
        image = cv2.GaussianBlur(generator.integers(0, 256, shape).astype(np.uint8), (5, 5), 1.2)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    return folder


@pytest.fixture
def models(tmp_path: Path, basicsr: Any) -> dict[str, dict[str, Any]]:
    """Name -> options of a model for a leaderboard, with weights from a seed."""
    han_arch.register()
    from basicsr.archs import build_network

    options: dict[str, dict[str, Any]] = {"Bicubic": {"type": "Bicubic"}}
    for seed, (name, network_g) in enumerate(NETWORKS.items()):
        torch.manual_seed(seed)
        path = tmp_path / f"{name}.pth"
        torch.save({"params": build_network(dict(network_g)).state_dict()}, path)
        options[name] = {"checkpoint": str(path), "network_g": network_g}
    return options


@pytest.fixture
def board_options(hr_folder: Path, models: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A leaderboard's option file as a mapping."""
    return {
        "name": "small", "scale": 2, "num_gpu": 0, "datasets": {"Set14": {"dataroot_gt": str(hr_folder)}},
        "models": models, "variants": ["full", "self_ensemble"], "baseline": "EDSR",
        "cost": {"lr_size": 16, "repeat": 1},
    }  # fmt: skip
