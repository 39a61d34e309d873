"""Small HR folders and the data sets prepared from them."""

from pathlib import Path

import pytest
from pictures import GRID, SIZES, make_picture, write_image

from han_arch.data.degradation import degradation_at
from han_arch.data.prepare import Recipe, prepare


@pytest.fixture
def hr_folder(tmp_path) -> Path:
    """Five pictures, none of which divides by 2, 3 and 4."""
    folder = tmp_path / "hr"
    folder.mkdir()
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        write_image(folder / f"{name}.png", make_picture(height, width, seed))
    return folder


@pytest.fixture(scope="session")
def prepared_template(tmp_path_factory) -> Path:
    """Everything that prepare makes at x2 from five pictures; tests copy it."""
    hr = tmp_path_factory.mktemp("hr")
    for seed, (name, (height, width)) in enumerate(SIZES.items()):
        write_image(hr / f"{name}.png", make_picture(height, width, seed))
    out = tmp_path_factory.mktemp("prepared")
    prepare(hr, out, [degradation_at("BI", 2)], Recipe(grid=GRID, patch=24), workers=1)
    return out
