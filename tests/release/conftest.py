"""Fixtures of the release tests. Tests can import the modules in scripts/."""

import sys
from pathlib import Path

import pytest
from releases import Made, write_release

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, basicsr: object) -> Made:
    """A small experiment and its release. Tests must not change them."""
    return write_release(tmp_path_factory.mktemp("release"))
