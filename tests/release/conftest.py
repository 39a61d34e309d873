"""Fixtures of the release tests; scripts/ can be imported."""

import sys
from pathlib import Path

import pytest
from releases import Made, write_release

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, basicsr: object) -> Made:
    """A release; tests must not change it."""
    return write_release(tmp_path_factory.mktemp("release"))
