"""Fixtures: tiny models, and the messages of BasicSR's log."""

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from steps import NETWORK

import han_arch


@pytest.fixture
def build(basicsr: ModuleType, tmp_path: Path):
    """Return a function that builds a model; keyword arguments change the default options of `train`."""
    han_arch.register()

    def make(
        is_train: bool = True,
        seed: int = 0,
        network: dict[str, Any] | None = None,
        winograd: bool = False,
        model_type: str = "HANModel",
        **train: Any,
    ) -> Any:
        from basicsr.models import build_model

        for name in ("models", "training_states"):
            (tmp_path / name).mkdir(exist_ok=True)
        opt = {
            "name": "step", "model_type": model_type, "scale": 2, "num_gpu": 0, "is_train": is_train, "dist": False,
            "rank": 0, "world_size": 1, "winograd": winograd,
            "network_g": network or {**NETWORK, "squeeze_factor": 4, "upscale": 2},
            "path": {key: str(tmp_path / key) for key in ("models", "training_states", "visualization")},
            "train": {
                "ema_decay": 0.9,
                "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
                "scheduler": {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5},
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
                **train,
            },
            "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}}},
        }  # fmt: skip
        torch.manual_seed(seed)
        return build_model(opt)

    return make


@pytest.fixture
def messages(
    basicsr: ModuleType, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Capture BasicSR's log messages. Its logger must be configured first, because that turns off propagation."""
    from basicsr.utils import get_root_logger

    monkeypatch.setattr(get_root_logger(), "propagate", True)
    caplog.set_level(logging.INFO, "basicsr")
    return caplog
