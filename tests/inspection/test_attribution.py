"""Test local attribution maps of functions whose map is known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from han_arch import HAN
from han_arch.inspection.attribution import Patch, attribute, blurred, detail, diffusion_index, window_around


def enlarge(lq: torch.Tensor) -> torch.Tensor:
    return lq.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_only_the_pixels_that_the_patch_shows_count() -> None:
    """The function repeats each pixel, so the output patch depends on columns 4..7 and rows 2..5 of the input."""
    torch.manual_seed(0)
    found = attribute(enlarge, torch.rand(1, 3, 14, 16), Patch(8, 4, 8), steps=5)
    inside = torch.zeros(14, 16, dtype=torch.bool)
    inside[2:6, 4:8] = True
    assert found.map[~inside].abs().max() == 0
    assert (found.map[inside] > 0).float().mean() > 0.9
    assert found.map.max() == 1


def test_sum_is_the_change_of_detail_along_the_path() -> None:
    """The path integral of a gradient equals the difference between the values at both ends."""
    torch.manual_seed(1)
    net = HAN(3, 3, num_feat=8, num_group=2, num_block=1, squeeze_factor=4, upscale=2).eval().requires_grad_(False)
    lq, patch = torch.rand(1, 3, 20, 18), Patch(10, 12, 10)
    found = attribute(net, lq, patch, steps=100)
    with torch.no_grad():
        expected = float(detail(net(lq), patch) - detail(net(blurred(lq, 1.2)), patch))
    assert found.total == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("sigma", [0.4, 1.2])
def test_blur_is_scipys(sigma: float) -> None:
    lq = torch.rand(1, 2, 17, 21, dtype=torch.float64)
    expected = [gaussian_filter(plane, sigma, mode="mirror", radius=5) for plane in lq[0].numpy()]
    np.testing.assert_allclose(blurred(lq, sigma)[0].numpy(), expected, atol=1e-12)
    assert blurred(lq, 0).equal(lq)
    assert blurred(lq[:, :, :2, :3], sigma).shape == (1, 2, 2, 3)


def test_diffusion_index() -> None:
    """The reference is the definition, 1 - sum_ij |g_i - g_j| / (2 n^2 mean); the extreme cases are tested too."""
    values = torch.rand(6, 7, dtype=torch.float64)
    differences = (values.flatten()[:, None] - values.flatten()).abs().sum()
    expected = 100 * (1 - float(differences / (2 * 42**2 * values.mean())))
    assert diffusion_index(values) == pytest.approx(expected)
    assert diffusion_index(torch.ones(5, 5)) == pytest.approx(100)
    one = torch.zeros(10, 10)
    one[3, 4] = 2
    assert diffusion_index(one) == pytest.approx(1)
    assert diffusion_index(torch.zeros(3, 3)) == 100


@pytest.mark.parametrize(
    ("patch", "corner"),
    [(None, (24, 14)), (Patch(0, 0, 8), (0, 0)), (Patch(152, 112, 8), (48, 28)), (Patch(100, 60, 12), (37, 17))],
)
def test_window_lies_around_the_patch_and_inside_the_photo(patch: Patch | None, corner: tuple[int, int]) -> None:
    assert window_around(patch, torch.zeros(1, 3, 60, 80), 32, 2) == corner
