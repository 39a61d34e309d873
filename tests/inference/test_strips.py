"""The tail in strips gives the same output as the network, and no strip is larger than strip_pixels."""

import pytest
import torch

from han_arch import HAN
from han_arch.inference.strips import each_strip, super_resolve


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
@pytest.mark.parametrize("strip_pixels", [1, 30, 75, 10_000])
def test_strips_are_exact(upscale: int, strip_pixels: int) -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, 8, 2, 1, 4, upscale).double().eval()
    net.conv_last.bias.data.fill_(20)  # makes wrong padding at the edge of a strip visible
    lq = torch.rand(2, 3, 13, 5, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(super_resolve(net, lq, strip_pixels), net(lq), rtol=1e-12, atol=1e-12)


def test_strips_bound_what_passes_the_tail() -> None:
    net = HAN(3, 3, 8, 2, 1, 4, 2)
    heights = []
    tail = net.tail
    net.tail = lambda feat: heights.append(feat.shape[2]) or tail(feat)
    strips = list(each_strip(net, torch.rand(1, 8, 40, 10), strip_pixels=100))
    assert [(row, strip.shape[2]) for row, strip in strips] == [(0, 20), (20, 20), (40, 20), (60, 20)]
    assert heights == [12, 14, 14, 12]  # strips of 10 rows, plus 2 rows beyond each edge inside the image
    with pytest.raises(ValueError, match="strip_pixels must be at least 1"):
        super_resolve(net, torch.rand(1, 3, 4, 4), strip_pixels=0)
