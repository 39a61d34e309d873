"""Fixtures for the tests of option files."""

from pathlib import Path
from types import ModuleType

import pytest
from standins import make_files, sound_options

import han_arch


@pytest.fixture
def demo_folder(basicsr: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Register HAN. In a new current folder, make empty images and a checkpoint for the demo's option files."""
    han_arch.register()
    for name in ("demo_HAN_x4", "demo_test_HAN_x4"):
        make_files(sound_options(name), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
