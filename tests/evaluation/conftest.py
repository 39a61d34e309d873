"""Fixtures: a leaderboard with a tiny test set and the checkpoints of two tiny networks."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import han_arch
from han_arch.evaluation.board import Board, load
from han_arch.evaluation.run import SetResult, run
from han_arch.evaluation.score import ScoreCache

NETWORKS: dict[str, dict[str, Any]] = {
    "HAN": {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 1, "num_block": 1,
            "squeeze_factor": 4, "upscale": 2},
    "EDSR": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2},
}  # fmt: skip


def small_board(folder: Path) -> dict[str, Any]:
    """Write images and weights to the folder, and return the options of a leaderboard that uses them."""
    hr = folder / "HR"
    hr.mkdir()
    generator = np.random.default_rng(0)
    for name, shape in (("a", (33, 40, 3)), ("b", (40, 47, 3)), ("c", (36, 36))):
        image = cv2.GaussianBlur(generator.integers(0, 256, shape).astype(np.uint8), (5, 5), 1.2)
        cv2.imwrite(str(hr / f"{name}.png"), image)

    han_arch.register()
    from basicsr.archs import build_network

    models: dict[str, dict[str, Any]] = {"Bicubic": {"type": "Bicubic"}}
    for seed, (name, network_g) in enumerate(NETWORKS.items()):
        torch.manual_seed(seed)
        torch.save({"params": build_network(dict(network_g)).state_dict()}, folder / f"{name}.pth")
        models[name] = {"checkpoint": str(folder / f"{name}.pth"), "network_g": network_g}
    return {
        "name": "small", "scale": 2, "num_gpu": 0, "datasets": {"Set14": {"dataroot_gt": str(hr)}},
        "models": models, "variants": ["full", "self_ensemble"], "baseline": "EDSR",
        "cost": {"lr_size": 16, "repeat": 1},
    }  # fmt: skip


@pytest.fixture
def board_options(tmp_path: Path, basicsr: object) -> dict[str, Any]:
    """Options of a leaderboard: Bicubic, two tiny networks, three images (c.png is grey). Tests may change them."""
    return small_board(tmp_path)


@pytest.fixture
def hr_folder(board_options: dict[str, Any]) -> Path:
    """The folder with the HR images of the leaderboard."""
    return Path(board_options["datasets"]["Set14"]["dataroot_gt"])


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, basicsr: object) -> tuple[Board, list[SetResult]]:
    """The same leaderboard, checked and measured. Tests must not change it."""
    folder = tmp_path_factory.mktemp("measured")
    checked = load(small_board(folder))
    return checked, run(checked, ScoreCache(folder / "cache"))
