"""Fixtures of the training tests."""

from pathlib import Path
from typing import Protocol

import pytest
from runs import make_folder


class MakeRun(Protocol):
    def __call__(self, name: str, workers: int = 0, winograd: bool = False) -> Path: ...


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Return a function that makes a folder with photos and an option file, always with the same content."""
    return lambda name, workers=0, winograd=False: make_folder(tmp_path / name, workers, winograd)
