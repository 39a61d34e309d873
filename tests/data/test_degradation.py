"""The degradations: BD equals a plain loop; names and errors; one record adds one; `identify` finds the method."""

import argparse
from math import exp, floor

import numpy as np
import pytest
from pictures import make_picture

from han_arch.commands import data
from han_arch.data.degradation import (
    CONVENTIONS,
    DEGRADATIONS,
    Degradation,
    degradation_at,
    get_degradation,
    identify,
    mod_crop,
)
from han_arch.data.imresize import imresize
from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol


def test_bd_equals_a_loop_over_pixels():
    image = np.random.default_rng(3).integers(0, 256, (12, 9), np.uint8)
    weights = {(y, x): exp(-(y * y + x * x) / (2 * 1.6**2)) for y in range(-3, 4) for x in range(-3, 4)}
    total = sum(weights.values())
    wanted = np.zeros((4, 3), np.uint8)
    for row in range(4):
        for column in range(3):
            value = 0.0
            for (y, x), weight in weights.items():
                at = min(max(3 * row + 1 + y, 0), 11), min(max(3 * column + 1 + x, 0), 8)
                value += weight / total * int(image[at])
            wanted[row, column] = floor(value + 0.5)
    made = get_degradation("BDx3").degrade(image)
    assert np.array_equal(made, wanted)
    colour = np.stack([image, image[::-1], image], axis=2)
    assert np.array_equal(get_degradation("BDx3").degrade(colour)[:, :, 0], wanted)
    assert get_degradation("BDx3").degrade(image[:, :, None]).shape == (4, 3, 1)


def test_all_degradations_of_the_papers_have_names():
    for name in ("BIx2", "BIx3", "BIx4", "BIx8", "BDx3", "BIx2_replicate", "BIx8_replicate"):
        degradation = get_degradation(name)
        assert degradation.name == name
        assert degradation_at(degradation.kind, degradation.scale, degradation.border) == degradation
        image = np.random.default_rng(0).integers(0, 256, (48, 72, 3), np.uint8)
        lq = degradation.degrade(image)
        assert lq.shape == (48 // degradation.scale, 72 // degradation.scale, 3)
        assert degradation.upscale(lq).shape == image.shape


def test_bi_is_imresize_with_its_border():
    image = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    symmetric, replicate = (get_degradation(name).degrade(image) for name in ("BIx4", "BIx4_replicate"))
    assert np.array_equal(symmetric, imresize(image, 0.25))
    assert np.array_equal(replicate, imresize(image, 0.25, "replicate"))


def test_sides_that_do_not_divide_are_refused_and_mod_crop_fixes_them():
    image = np.arange(7 * 11, dtype=np.uint8).reshape(7, 11)
    with pytest.raises(ValueError, match="multiples of 3; got 7x11"):
        get_degradation("BIx3").degrade(image)
    assert np.array_equal(mod_crop(image, 3), image[:6, :9])
    assert get_degradation("BIx3").degrade(mod_crop(image, 3)).shape == (2, 3)


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(UserError, match=r"did you mean BIx4\?"):
        get_degradation("BIX4")
    with pytest.raises(UserError, match="'BDx2'; BD exists only as BDx3"):
        degradation_at("BD", 2)
    with pytest.raises(UserError, match="'BDx4'; BD exists only as BDx3"):
        get_degradation("BDx4")


def test_a_border_matters_only_to_a_degradation_that_distinguishes_borders():
    assert degradation_at("BI", 4, "replicate") == get_degradation("BIx4_replicate")
    assert degradation_at("BD", 3, "replicate") == get_degradation("BDx3")
    assert degradation_at("BI", 4, "as given") == get_degradation("BIx4")


def test_one_record_adds_a_degradation(monkeypatch):
    record = Degradation("NN", "taking every pixel of a grid", lambda gt, scale, border: gt[::scale, ::scale], (2,))
    monkeypatch.setitem(DEGRADATIONS, "NN", record)
    image = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert np.array_equal(get_degradation("NNx2").degrade(image), [[0, 2], [8, 10]])
    protocol = Protocol("NN", 2)
    assert protocol.name.startswith("NNx2")
    with pytest.raises(UserError, match="NNx2"):
        get_degradation("NNx4")
    parser = argparse.ArgumentParser()
    data.configure(parser)
    assert parser.parse_args(["prepare", "hr", "-o", "out", "--scale", "2", "--degradation", "NN"]).degradation == "NN"


def pairs_made_by(convention: str, scale: int) -> list[tuple[np.ndarray, np.ndarray]]:
    gts = [make_picture(60 * scale, 48 * scale, seed) for seed in range(3)]
    return [(gt, CONVENTIONS[convention](gt, scale)) for gt in gts]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_conventions_are_distinguished(basicsr, convention, scale):
    verdict = identify(pairs_made_by(convention, scale), scale)
    assert (verdict.name, verdict.edge, verdict.shares[convention]) == (convention, 0, 0)


def test_unknown_convention_gives_the_shares(basicsr):
    pairs = [(gt, 255 - lq) for gt, lq in pairs_made_by("BI symmetric", 2)]
    verdict = identify(pairs, 2)
    assert verdict.name == "unknown"
    assert set(verdict.shares) == set(CONVENTIONS)
    assert min(verdict.shares.values()) > 0.5


@pytest.mark.parametrize("side", [120, 480])
def test_sub_images_are_recognised_inside_their_edges(side):
    # In large sub-images the edges are a small share of the samples; even then they must not be compared.
    gt = make_picture(side + 160, side + 160, 1)
    lq = get_degradation("BIx2").degrade(gt)
    inside, small = slice(80, 80 + side), slice(40, 40 + side // 2)
    verdict = identify([(gt[inside, inside], lq[small, small])], 2)
    assert verdict.edge > 0
    assert verdict.shares[verdict.name] == 0
    assert str(verdict) == "BI (edges not compared)"
