"""Blended tiles are exact for local functions, cover the output once, and show no seam with a global network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_engines import photo, tiny_net
from torch import nn

from han_arch.inference.plan import Plan
from han_arch.inference.tiles import Tiling, blended, in_tiles
from han_arch.inference.upscale import upscale


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.integers(1, 40),
    overlap=st.integers(0, 20),
    scale=st.sampled_from([1, 2, 3, 4]),
)
def test_a_local_function_comes_out_whole(height: int, width: int, size: int, overlap: int, scale: int) -> None:
    lq = torch.rand(1, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = lq.repeat_interleave(scale, -1).repeat_interleave(scale, -2)[0]
    result, times = torch.full_like(expected, torch.nan), torch.zeros(expected.shape[1:])

    def run(region: tuple[int, int, int, int]) -> torch.Tensor:
        part = lq[:, :, region[0] : region[1], region[2] : region[3]]
        assert part.shape[2] <= size + 2 * overlap
        return part.repeat_interleave(scale, -1).repeat_interleave(scale, -2)

    for row, column, block in blended(run, Tiling(height, width, scale, size, overlap)):
        place = (slice(row, row + block.shape[2]), slice(column, column + block.shape[3]))
        result[(slice(None), *place)] = block[0]
        times[place] += 1
    assert times.eq(1).all()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


def test_the_weight_passes_linearly_between_tiles() -> None:
    """Blend two tiles with the constants 0 and 1 over 4 LR pixels at x2: eight equal steps, at pixel centres."""
    values = iter([0.0, 1.0])
    tiling = Tiling(1, 16, 2, 8, 4)
    blocks = blended(lambda region: torch.full((1, 1, 2, 2 * (region[3] - region[2])), next(values)), tiling)
    row = torch.cat([block[0, 0, 0] for _, _, block in blocks])
    fade = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(row.numpy(), np.concatenate([np.zeros(12), fade, np.ones(12)]), atol=1e-6)


def test_tiles_are_equal_up_to_a_pixel() -> None:
    """Tiles must have equal sizes: a last tile of a few pixels would have other statistics."""
    shares = [span.high - span.low for span in Tiling(1000, 1000, 2, 300, 0).rows]
    assert len(shares) == 4
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("size", "overlap"), [(0, 2), (8, -1)])
def test_invalid_sizes(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size >= 1 and overlap >= 0"):
        Tiling(10, 10, 2, size, overlap)


@pytest.fixture
def net() -> nn.Module:
    """A convolutional network for x2, whose output depends on LR pixels at most 2 pixels away."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2)
    ).double()


@pytest.mark.parametrize("height", [1, 5, 8, 9, 23])
@pytest.mark.parametrize("width", [1, 7, 8, 17])
def test_equals_the_whole_image(height: int, width: int, net: nn.Module) -> None:
    """Half the overlap is not used: with an overlap of 4, the network sees 2 pixels beyond every used pixel."""
    lq = torch.rand(2, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(in_tiles(net, lq, Tiling(height, width, 2, 8, 4)), net(lq))


def test_too_little_overlap_shows(net: nn.Module) -> None:
    lq = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    with torch.no_grad():
        difference = (in_tiles(net, lq, Tiling(20, 20, 2, 10, 1)) - net(lq)).abs()
    assert difference.max() > 1e-3
    assert difference[..., :16, :16].max() < 1e-12  # outside the blended border at LR pixel 10


def test_steps_across_borders_are_those_inside_tiles() -> None:
    """Compare the mean step between neighbouring columns at each border with the spread of all other steps."""
    net, pixels = tiny_net(), photo(96, 300)
    result = upscale(pixels, net, plan=Plan("tiles", 50, 16)).astype(float)
    steps = np.abs(np.diff(result, axis=1)).mean((0, 2))
    borders = [2 * cut - 1 for cut in range(50, 300, 50)]
    inside = np.delete(steps, borders)
    parity = inside[1::2].mean()  # a border is between two LR pixels; steps inside one LR pixel are different
    noise = inside[1::2].std() / len(borders) ** 0.5
    assert abs(steps[borders].mean() - parity) < 3 * noise
