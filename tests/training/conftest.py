"""Fixtures of the training tests."""

from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
from runs import make_folder
from standins import make_files, sound_options

import han_arch


@pytest.fixture
def demo_folder(basicsr: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with stand-ins for what the demo's option files name; HAN is registered."""
    han_arch.register()
    for name in ("demo_HAN_x4", "demo_test_HAN_x4"):
        make_files(sound_options(name), tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class MakeRun(Protocol):
    def __call__(self, name: str, workers: int = 0, winograd: bool = False) -> Path: ...


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make folders with photos and an option file, the same every time."""
    return lambda name, workers=0, winograd=False: make_folder(tmp_path / name, workers, winograd)
