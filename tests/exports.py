"""Make small networks to export, and skip tests if the export packages are not installed."""

from pathlib import Path

import pytest
import torch

from han_arch import HAN
from han_arch.export.targets import TARGETS


def need(target: str) -> None:
    """Skip the test unless the target's packages are installed."""
    for package in TARGETS[target].packages:
        pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")


def save_network(path: Path, channels: int = 3, upscale: int = 2, **settings) -> Path:
    """Save a small network with random weights, alpha 0.3 and beta -0.4."""
    torch.manual_seed(0)
    small = {"num_feat": 8, "num_group": 1, "num_block": 1, "squeeze_factor": 4}
    net = HAN(channels, channels, upscale=upscale, **(small | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        net.lam.alpha.fill_(0.3)
        net.csam.beta.fill_(-0.4)
    options = {"type": "HAN", "num_in_ch": channels, "num_out_ch": channels, "upscale": upscale, **small, **settings}
    torch.save({"params": net.state_dict(), "network_g": options}, path)
    return path
