"""Fixtures of the release tests."""

import pytest
from releases import Made, write_release


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, basicsr: object) -> Made:
    """A release; not to be changed."""
    return write_release(tmp_path_factory.mktemp("release"))
