"""A small network's checkpoint, and its exported files, made once."""

from pathlib import Path

import pytest
import torch

from han_arch import HAN, load_model
from han_arch.export.metadata import describe
from han_arch.export.targets import SUFFIXES, openvino_from_onnx
from han_arch.export.write import export

NEEDED = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino"), "torch": ()}


def need(target: str) -> None:
    """Skip where the target's packages are not installed."""
    for package in NEEDED[target]:
        pytest.importorskip(package, reason=f"{package} is not installed (pip install {package})")


def save_network(path: Path, channels: int = 3, upscale: int = 2, **settings) -> Path:
    """A checkpoint of a small random network whose attentions are switched on."""
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


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_network(tmp_path_factory.mktemp("model") / "small.pth")


@pytest.fixture(scope="session")
def exported(tmp_path_factory, checkpoint):
    """`exported(target)` -> the file; written at the first call."""
    folder = tmp_path_factory.mktemp("exported")

    def file(target: str) -> Path:
        need(target)
        path = folder / f"small{SUFFIXES[target][0]}"
        if target == "openvino" and not path.exists():  # by the command in a slow test; tracing again takes seconds
            openvino_from_onnx(file("onnx"), path, describe(load_model(checkpoint), str(checkpoint)))
        elif not path.exists():
            export(load_model(checkpoint), str(checkpoint), target, path)
        return path

    return file
