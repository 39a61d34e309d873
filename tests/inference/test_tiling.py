"""Tiles: exact for a convolution that reaches no further than the overlap, at every size."""

import pytest
import torch
from torch import nn

from han_arch.inference.tiling import tile


@pytest.fixture
def net() -> nn.Module:
    """Reach of 2 LR pixels, x2."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 12, 3, padding=1), nn.PixelShuffle(2)
    ).double()


@pytest.mark.parametrize("height", [1, 5, 8, 9, 23])
@pytest.mark.parametrize("width", [1, 7, 8, 17])
def test_equals_the_whole_image(height: int, width: int, net: nn.Module) -> None:
    lq = torch.rand(2, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(tile(net, lq, 2, size=8, overlap=2), net(lq))


def test_too_little_overlap_shows(net: nn.Module) -> None:
    lq = torch.rand(1, 3, 20, 20, dtype=torch.float64)
    with torch.no_grad():
        difference = (tile(net, lq, 2, size=8, overlap=1) - net(lq)).abs()
    assert difference.max() > 1e-3
    assert difference[..., :14, :14].max() < 1e-12  # away from the seam at LR pixel 8


@pytest.mark.parametrize(("size", "overlap"), [(0, 2), (8, -1)])
def test_sizes_that_make_no_tiles(size: int, overlap: int, net: nn.Module) -> None:
    with pytest.raises(ValueError, match="size >= 1 and overlap >= 0"):
        tile(net, torch.rand(1, 3, 4, 4), 2, size, overlap)
