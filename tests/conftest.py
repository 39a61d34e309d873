"""Fixtures that several test files share."""

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from han_arch import compat
from han_arch.errors import UserError
from han_arch.speed.winograd import native, no_compiler

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real images and known answers that stands beside the checkout; never part of it."""
    folder = Path(os.environ.get("HAN_ARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set HAN_ARCH_SHARED_DATA to the folder with the known answers")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint file, tiny.pth, of a small network for x2."""
    from known_engines import save_checkpoint, tiny_net

    return save_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth", tiny_net())


@pytest.fixture(scope="session")
def winograd_compiler() -> None:
    """Skip the test if there is no C compiler. On Linux a compiler must be able to compile the kernels."""
    try:
        native.library()
    except UserError as error:
        if sys.platform == "linux" and no_compiler() is None:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def basicsr() -> ModuleType:
    """BasicSR, imported with what it needs on today's stack."""
    if compat.installed_version("basicsr") is None:
        pytest.skip("BasicSR is not installed (it cannot be built on Python 3.13 and later)")
    return compat.require_basicsr()
