"""Names of variants; chop and self-ensemble with functions that have a known output."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from han_arch.errors import UserError
from han_arch.inference import variants
from han_arch.inference.tiles import OVERLAP, TILE, Tiling, in_tiles
from han_arch.inference.variants import chop, self_ensemble


def nearest(scale: int):
    return lambda lq: lq.repeat_interleave(scale, -1).repeat_interleave(scale, -2)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    scale=st.sampled_from([1, 2, 3, 4]),
    overlap=st.integers(0, 12),
    spare=st.integers(1, 600),
)
def test_chop_of_a_local_function_is_that_function(height, width, scale, overlap, spare) -> None:
    lq = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    run, sizes = nearest(scale), []

    def counting(part: torch.Tensor) -> torch.Tensor:
        sizes.append(part.shape[-2] * part.shape[-1])
        return run(part)

    max_pixels = (2 * overlap + 2) ** 2 + spare
    assert torch.equal(chop(counting, lq, scale, overlap, max_pixels), run(lq))
    assert max(sizes) < max_pixels
    assert len(sizes) >= (4 if min(height, width) > 1 else 1)


def test_chop_splits_as_the_authors_do() -> None:
    """For odd sides, the first half is shorter. Quadrants of 160,000 pixels or more are split again."""
    shapes: list[tuple[int, ...]] = []

    def run(part: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(part.shape[-2:]))
        return part

    chop(run, torch.zeros(1, 1, 37, 44), 1)
    assert shapes == [(28, 32)] * 4
    shapes.clear()
    chop(run, torch.zeros(1, 1, 780, 780), 1)  # quadrants have 400 x 400 pixels
    assert shapes == [(210, 210)] * 16
    shapes.clear()
    chop(run, torch.zeros(1, 1, 780, 778), 1)  # quadrants have 400 x 399 pixels
    assert shapes == [(400, 399)] * 4


def test_chop_keeps_each_quadrants_own_pixels() -> None:
    calls = iter([1.0, 2.0, 3.0, 4.0])
    out = chop(lambda part: torch.full_like(part, next(calls)), torch.zeros(1, 1, 5, 7), 1, overlap=1)
    assert out[0, 0, :2, :3].eq(1).all()
    assert out[0, 0, :2, 3:].eq(2).all()
    assert out[0, 0, 2:, :3].eq(3).all()
    assert out[0, 0, 2:, 3:].eq(4).all()


@pytest.mark.parametrize(("overlap", "max_pixels"), [(-1, 100), (10, 484)])
def test_chop_refuses_numbers_that_never_end(overlap: int, max_pixels: int) -> None:
    with pytest.raises(ValueError, match="max_pixels >"):
        chop(nearest(2), torch.zeros(1, 1, 90, 90), 2, overlap, max_pixels)


def test_self_ensemble_is_the_mean_over_the_square_s_symmetries() -> None:
    torch.manual_seed(0)
    lq, kernel = torch.rand(2, 1, 5, 6, dtype=torch.float64), torch.rand(1, 1, 3, 3, dtype=torch.float64)

    def run(part: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(part, kernel, padding=1).sigmoid()

    expected = torch.zeros_like(lq)
    for quarter_turns in range(4):
        for mirrored in (False, True):
            turned = torch.rot90(lq.flip(-1) if mirrored else lq, quarter_turns, (-2, -1))
            back = torch.rot90(run(turned), -quarter_turns, (-2, -1))
            expected += (back.flip(-1) if mirrored else back) / 8
    torch.testing.assert_close(self_ensemble(run, lq), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["full", "chop", "tiles", "tiles-64-0", "chop+self_ensemble", "tiles-8-2+self_ensemble"]
)
def test_names(name: str) -> None:
    variants.check(name)


@pytest.mark.parametrize("name", ["", "half", "full+chop", "chop+chop", "tiles-0-4", "tiles-8", "tiles-8-2-1", None])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match=r"variant must be full.*tiles-SIZE-OVERLAP.*got"):
        variants.check(name)


@pytest.mark.parametrize(("old", "new"), [("tiled", "tiles"), ("tiled-64-8", "tiles-64-8")])
def test_the_old_name_of_tiles_names_the_new(old: str, new: str) -> None:
    with pytest.raises(UserError, match=rf"'{old}' was renamed; use {new}\..*blended.*differ"):
        variants.check(f"{old}+self_ensemble")


@pytest.mark.parametrize(("name", "numbers"), [("tiles", (TILE, OVERLAP)), ("tiles-9-4", (9, 4))])
def test_tiles_by_name(name: str, numbers: tuple[int, int]) -> None:
    lq = torch.rand(2, 1, 110, 30)

    def run(part: torch.Tensor) -> torch.Tensor:
        return part - part.mean((2, 3), keepdim=True)

    expected = in_tiles(run, lq, Tiling(110, 30, 1, *numbers))
    assert torch.equal(variants.apply(name, run, 1)(lq), expected)
    assert not torch.allclose(expected, run(lq))
