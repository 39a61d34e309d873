"""Plugins of other packages are found by entry points and used by name. Their errors are reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("basicsr")

COMPONENT = """
import torch
from torch import nn
from han_arch.archs import register_component


@register_component("spatial")
class Dim(nn.Module):
    def __init__(self, num_feat):
        super().__init__()
        self.factor = nn.Parameter(torch.full((num_feat, 1, 1), 0.9))

    def forward(self, feat):
        return self.factor * feat


def setup():
    pass
"""
LIST = """
from han_arch.training import start
from han_arch import HAN
print(start.load_plugins())
print(type(HAN(3, 3, num_feat=16, num_group=1, num_block=1, spatial_attention="Dim").csam).__name__)
"""


def install_plugin(folder: Path, source: str) -> dict[str, str]:
    """Install a package as pip does; return environment variables with which Python finds it."""
    (folder / "dim_plugin.py").write_text(source)
    info = folder / "dim_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dim-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[basicsr.plugins]\ndim = dim_plugin:setup\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_component_of_another_package(tmp_path: Path) -> None:
    environment = install_plugin(tmp_path, COMPONENT)
    done = subprocess.run(
        [sys.executable, "-c", LIST], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "'dim': 'dim-plugin 1.2'" in done.stdout
    assert "'han_arch': 'han_arch" in done.stdout
    assert done.stdout.splitlines()[-1] == "Dim"


def test_broken_plugin_is_named(tmp_path: Path) -> None:
    environment = install_plugin(tmp_path, "def setup():\n    raise RuntimeError('no such luck')\n")
    command = [sys.executable, "-m", "han_arch"]
    settings = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run([*command, "train", "-opt", "train_HAN_x4"], **settings)
    assert done.returncode == 2
    assert all(part in done.stderr for part in ("'dim'", "dim-plugin 1.2", "RuntimeError: no such luck"))
    (tmp_path / "dim_plugin.py").write_text("import a_module_that_is_not_there\n")
    done = subprocess.run([*command, "doctor"], **settings)
    assert done.returncode == 1
    assert "BROKEN dim (dim-plugin 1.2): ModuleNotFoundError" in done.stdout
