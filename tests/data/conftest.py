"""Small HR folders and the data sets prepared from them."""

from pathlib import Path

import pytest
from pictures import GRID, SIZES, make_picture, write_image

from han_arch.data.degradation import degradation_at
from han_arch.data.prepare import Recipe, prepare


def write_pictures(folder: Path) -> Path:
    """Write five pictures; most of their sides are not multiples of 2, 3 and 4."""
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        write_image(folder / f"{name}.png", make_picture(height, width, seed))
    return folder


@pytest.fixture
def hr_folder(tmp_path) -> Path:
    """A folder of five pictures."""
    (tmp_path / "hr").mkdir()
    return write_pictures(tmp_path / "hr")


@pytest.fixture(scope="session")
def prepared_template(tmp_path_factory) -> Path:
    """The data sets that prepare makes at x2 from five pictures; tests that change them use a copy."""
    hr = write_pictures(tmp_path_factory.mktemp("hr"))
    out = tmp_path_factory.mktemp("prepared")
    prepare(hr, out, [degradation_at("BI", 2)], Recipe(grid=GRID, patch=24), workers=1)
    return out
