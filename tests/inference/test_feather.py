"""Fading tiles: exact for local functions, cover the result once, and leave no seam with a network that is global."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_engines import photo, tiny_net

from han_arch.inference.plan import Plan
from han_arch.inference.tiles import feathered, spans
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

    for row, column, block in feathered(run, height, width, scale, size, overlap):
        place = (slice(row, row + block.shape[1]), slice(column, column + block.shape[2]))
        result[(slice(None), *place)] = block
        times[place] += 1
    assert times.eq(1).all()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)


def test_between_tiles_that_differ_the_weight_passes_linearly() -> None:
    """Two tiles of constants 0 and 1 and a fade of 4 LR pixels at x2: eight steps, at pixel centres."""
    values = iter([0.0, 1.0])
    blocks = feathered(lambda region: torch.full((1, 1, 2, 2 * (region[3] - region[2])), next(values)), 1, 16, 2, 8, 4)
    row = torch.cat([block[0, 0] for _, _, block in blocks])
    fade = (np.arange(8) + 0.5) / 8
    np.testing.assert_allclose(row.numpy(), np.concatenate([np.zeros(12), fade, np.ones(12)]), atol=1e-6)


def test_shares_are_equal_up_to_a_pixel() -> None:
    """A last tile of a few pixels would have statistics of its own."""
    shares = [span.high - span.low for span in spans(1000, 300, 0)]
    assert len(shares) == 4
    assert max(shares) - min(shares) <= 1


@pytest.mark.parametrize(("size", "overlap"), [(0, 2), (8, -1)])
def test_sizes_that_make_no_tiles(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="size >= 1 and overlap >= 0"):
        spans(10, size, overlap)


def test_steps_across_borders_are_those_inside_tiles() -> None:
    """Mean absolute step between neighbouring columns: the step over each border against all others' spread."""
    net, pixels = tiny_net(), photo(96, 300)
    result = upscale(pixels, net, plan=Plan("tiles", 50, 16)).astype(float)
    steps = np.abs(np.diff(result, axis=1)).mean((0, 2))
    borders = [2 * cut - 1 for cut in range(50, 300, 50)]
    inside = np.delete(steps, borders)
    parity = inside[1::2].mean()  # a border lies between two LR pixels, where steps differ from those within one
    noise = inside[1::2].std() / len(borders) ** 0.5
    assert abs(steps[borders].mean() - parity) < 3 * noise
