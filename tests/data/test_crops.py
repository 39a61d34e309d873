"""Sub-image windows: they cover the image, divide by the scale, and the last one is flush."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from han_arch.data.prepare import CropGrid, shrink, sub_image_names
from han_arch.errors import UserError


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.sampled_from([2, 3, 4, 8]), st.integers(1, 60), st.integers(1, 60))
def test_windows_cover_every_pixel_and_divide_by_the_scale(scale, rows, columns):
    height, width = rows * scale, columns * scale
    grid = CropGrid(size=24 * scale, step=12 * scale)
    seen = np.zeros((height, width), int)
    windows = grid.windows(height, width)
    for window in windows:
        seen[window] += 1
        part = seen[window]
        assert part.shape == (min(height, grid.size), min(width, grid.size))
        small = shrink(window, scale)
        assert [edge * scale for at in small for edge in (at.start, at.stop)] == [
            edge for at in window for edge in (at.start, at.stop)
        ]
    assert seen.min() >= 1
    assert windows[-1][0].stop == height
    assert windows[-1][1].stop == width
    assert len(set(map(str, windows))) == len(windows)


def test_papers_grid_on_a_div2k_image():
    assert CropGrid().starts(1356) == [0, 240, 480, 720, 876]
    assert CropGrid().starts(2040) == [0, 240, 480, 720, 960, 1200, 1440, 1560]
    assert CropGrid().starts(480) == [0]
    assert CropGrid().starts(321) == [0]
    assert sub_image_names("0001", 2) == ["0001_s001", "0001_s002"]


@pytest.mark.parametrize(("size", "step"), [(100, 48), (96, 50), (0, 48), (96, -48)])
def test_sizes_that_do_not_divide_name_the_nearest(size, step):
    with pytest.raises(UserError, match="not a multiple of scale 8; the nearest are"):
        CropGrid(size, step).check(8)
    CropGrid(96, 48).check(8)
