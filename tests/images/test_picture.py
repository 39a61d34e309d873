"""Conversion of Pillow images to pictures; search for the window with the most detail."""

import numpy as np
import pytest
from known_engines import photo
from PIL import Image

from han_arch.images.picture import from_pillow, most_detailed_window


def test_window_covers_the_only_detailed_place() -> None:
    image = np.full((60, 80, 3), 90, np.uint8)
    image[30:50, 40:70] = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    top, left = most_detailed_window(image, 20)
    assert 29 <= top <= 31
    assert 40 <= left <= 50


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_same_window_as_an_exhaustive_search(dtype: type) -> None:
    image = np.random.default_rng(1).integers(0, 256, (23, 31, 3)).astype(dtype)
    grey = image.astype(float).mean(-1)
    detail = np.zeros_like(grey)
    detail[1:] += abs(grey[1:] - grey[:-1])
    detail[:, 1:] += abs(grey[:, 1:] - grey[:, :-1])
    places = {(y, x): detail[y : y + 8, x : x + 8].sum() for y in range(16) for x in range(24)}
    assert most_detailed_window(image, 8) == max(places, key=lambda place: places[place])


def test_window_may_fill_the_image() -> None:
    assert most_detailed_window(np.zeros((8, 8, 1)), 8) == (0, 0)


def test_pillow_images_are_not_changed() -> None:
    image = Image.fromarray(photo(6, 8))
    image.getexif()[0x0112] = 6
    assert from_pillow(image).pixels.shape == (8, 6, 3)
    assert image.size == (8, 6)
    assert image.getexif()[0x0112] == 6
