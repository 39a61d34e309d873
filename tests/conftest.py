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
    """The top folder of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real images and reference results. It is next to the checkout, not inside it."""
    folder = Path(os.environ.get("HAN_ARCH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist; set HAN_ARCH_SHARED_DATA to the folder with the reference results")
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint file tiny.pth of a small network with scale 2."""
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
    """BasicSR, imported with the import fallbacks of han_arch."""
    if compat.installed_version("basicsr") is None:
        pytest.skip("BasicSR is not installed (it cannot be built on Python 3.13 and later)")
    return compat.require_basicsr()
