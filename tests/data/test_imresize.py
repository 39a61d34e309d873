"""imresize against RCAN's MATLAB files, exact fractions, and the published bicubic rows."""

import csv
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from han_arch.data.degradation import get_degradation, mod_crop
from han_arch.data.imresize import imresize
from han_arch.images.read import list_files, read_image

NAMES = ("baby", "bird", "butterfly", "head", "woman")


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_matlab_files_are_reproduced_to_the_bit(shared_data, scale, name):
    folder = shared_data / "known_answers" / f"x{scale}"
    gt, lq = (read_image(folder / f"{name}_{kind}_x{scale}.png") for kind in ("HR", "LRBI"))
    assert np.count_nonzero(imresize(gt, 1 / scale, "replicate") != lq) == 0
    # The other border convention gives other pixels; otherwise this test could not distinguish them.
    assert np.count_nonzero(imresize(gt, 1 / scale, "symmetric") != lq) > 0


def keys_kernel(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x <= 2:
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def outside(index: int, length: int, border: str) -> int:
    if border == "replicate":
        return min(max(index, 0), length - 1)
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def exact_line(line: list[int], scale: Fraction, border: str) -> list[Fraction]:
    """One line resized from the definition, one output sample after the other, without any rounding."""
    stretch = max(1 / scale, Fraction(1))
    result = []
    for out in range(ceil(scale * len(line))):
        center = (out + Fraction(1, 2)) / scale - Fraction(1, 2)
        reach = range(floor(center - 2 * stretch) - 1, ceil(center + 2 * stretch) + 2)
        weights = {tap: keys_kernel((center - tap) / stretch) for tap in reach}
        total = sum(weights.values())
        result.append(sum(w * line[outside(tap, len(line), border)] for tap, w in weights.items()) / total)
    return result


def assert_rounded_half_up(got: int, exact: Fraction) -> None:
    wanted = min(max(floor(exact + Fraction(1, 2)), 0), 255)
    on_a_half = (exact + Fraction(1, 2)).denominator == 1
    # On an exact half, double precision may fall to either side where the weights are no binary fractions.
    assert got == wanted or (on_a_half and got == wanted - 1), (got, exact)


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize("scale", ["1/2", "1/3", "1/4", "1/8", "2", "3", "4", "7/10", "13/10", "1"])
@pytest.mark.parametrize("length", [3, 24, 37])
def test_one_line_equals_exact_fractions(scale, border, length):
    scale = Fraction(scale)
    line = np.random.default_rng(length).integers(0, 256, length, np.uint8)
    resized = imresize(line[:, None], float(scale), border)
    exact = exact_line([int(v) for v in line], scale, border)
    assert resized.shape == (ceil(float(scale) * length), ceil(float(scale)))
    for got, wanted in zip(resized[:, 0], exact[: len(resized)], strict=True):
        assert_rounded_half_up(int(got), wanted)


def test_binary_factors_round_halves_up_exactly():
    line = np.array([0, 0, 1, 1, 0, 0, 1, 0, 255, 254, 255, 255], np.uint8)
    for scale in (Fraction(1, 2), Fraction(1, 4), Fraction(2)):
        wanted = [min(max(floor(v + Fraction(1, 2)), 0), 255) for v in exact_line(line.tolist(), scale, "symmetric")]
        assert imresize(line[:, None], float(scale))[:, 0].tolist() == wanted


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 2.0])
def test_rows_are_finished_and_rounded_before_columns(scale):
    image = np.random.default_rng(0).integers(0, 256, (12, 18), np.uint8)
    rows = np.stack([imresize(image[:, [x]], scale)[:, 0] for x in range(18)], axis=1)
    columns = np.stack([imresize(rows[[y], :].T.copy(), scale)[:, 0] for y in range(len(rows))])
    assert np.array_equal(imresize(image, scale), columns)
    other_order = imresize(image.T.copy(), scale).T
    assert not np.array_equal(imresize(image, scale), other_order)


images = st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.random.default_rng(drawn[2]).integers(0, 256, drawn[:2], np.uint8)
)
borders = st.sampled_from(["symmetric", "replicate"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.floats(0.1, 5), borders)
def test_constant_images_stay_constant_and_sizes_are_rounded_up(height, width, value, scale, border):
    resized = imresize(np.full((height, width, 3), value, np.uint8), scale, border)
    assert resized.shape == (ceil(scale * height), ceil(scale * width), 3)
    assert (resized == value).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(images, st.sampled_from([2, 4, 8]), borders, st.sampled_from([0, 1]), st.booleans())
def test_flips_pass_through(image, factor, border, axis, shrink):
    # Only sizes that divide by the factor have their output grid in the middle.
    image = np.tile(image, (factor, factor)) if shrink else image
    scale = 1 / factor if shrink else factor
    flipped = imresize(np.flip(image, axis), scale, border)
    assert np.array_equal(flipped, np.flip(imresize(image, scale, border), axis))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(images, st.sampled_from([1 / 2, 1 / 3, 1 / 4, 3.0]), borders)
def test_channels_do_not_mix(image, scale, border):
    colour = np.stack([image, 255 - image, np.flip(image, 0)], axis=2)
    resized = imresize(colour, scale, border)
    for channel in range(3):
        assert np.array_equal(resized[:, :, channel], imresize(colour[:, :, channel], scale, border))


@pytest.mark.parametrize(
    ("image", "scale", "border", "error"),
    [
        (np.zeros((4, 4), np.float32), 0.5, "symmetric", TypeError),
        (np.zeros(4, np.uint8), 0.5, "symmetric", ValueError),
        (np.zeros((0, 4), np.uint8), 0.5, "symmetric", ValueError),
        (np.zeros((4, 4), np.uint8), 0.0, "symmetric", ValueError),
        (np.zeros((4, 4), np.uint8), float("nan"), "symmetric", ValueError),
        (np.zeros((4, 4), np.uint8), 0.5, "reflect", ValueError),
    ],
)
def test_wrong_arguments_are_refused(image, scale, border, error):
    with pytest.raises(error, match="must be"):
        imresize(image, scale, border)


def luma(image: np.ndarray) -> np.ndarray:
    """BT.601 Y in 16..235, not rounded; grey files are compared directly, as the published bicubic row does."""
    pixels = image.astype(np.float64)
    return pixels if pixels.ndim == 2 else 16 + pixels @ np.array([65.481, 128.553, 24.966]) / 255


def mean_psnr(folder, degradation) -> float:
    values = []
    cut = slice(degradation.scale, -degradation.scale)
    for file in list_files(folder):
        gt = mod_crop(read_image(file), degradation.scale)
        error = (luma(gt) - luma(degradation.upscale(degradation.degrade(gt))))[cut, cut]
        values.append(10 * np.log10(255**2 / np.mean(error**2)))
    return float(np.mean(values))


def published_bicubic(shared_data, degradation, name) -> float:
    with (shared_data / "published_results.csv").open() as file:
        for row in csv.reader(line for line in file if not line.startswith("#")):
            if row[:4] == [degradation.kind, str(degradation.scale), "Bicubic", name]:
                return float(row[4])
    raise LookupError(name)


@pytest.mark.parametrize("name", ["Set5", "Set14", "B100"])
@pytest.mark.parametrize("degradation", ["BIx2", "BIx3", "BIx4", "BDx3"])
def test_published_bicubic_rows(shared_data, degradation, name):
    degradation = get_degradation(degradation)
    measured = mean_psnr(shared_data / "benchmarks" / name / "HR", degradation)
    assert measured == pytest.approx(published_bicubic(shared_data, degradation, name), abs=0.02)
