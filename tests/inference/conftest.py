"""Fixtures for the tests of upscaling."""

from pathlib import Path

import pytest
import torch
from known_engines import ARGUMENTS, tiny_net


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of `tiny_net`, x2."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    options = {"type": "HAN", **ARGUMENTS, "upscale": 2}
    torch.save({"params": tiny_net().state_dict(), "network_g": options}, path)
    return path
