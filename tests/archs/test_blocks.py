"""Compare the backbone with BasicSR's blocks that have the same weights."""

import pytest
import torch

from han_arch import HAN
from han_arch.archs import blocks


@pytest.fixture(scope="module")
def rcan_arch(basicsr):
    from basicsr.archs import rcan_arch

    return rcan_arch


def assert_same(ours: torch.nn.Module, theirs: torch.nn.Module, x: torch.Tensor) -> None:
    """Compare two blocks in float64, where fused steps differ only in the last digits."""
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours, theirs, x = ours.double(), theirs.double(), x.double()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-13, atol=1e-13)


def test_channel_attention(rcan_arch) -> None:
    x = torch.randn(2, 12, 5, 7)
    ours, theirs = blocks.ChannelAttention(12, 4), rcan_arch.ChannelAttention(12, 4)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours(torch.zeros_like(x), x, 1), theirs(x))
    torch.testing.assert_close(ours(x, x, 0.5), x + 0.5 * theirs(x))


@pytest.mark.parametrize("res_scale", [1, 0.1])
def test_rcab_and_group(rcan_arch, res_scale: float) -> None:
    x = torch.randn(2, 12, 5, 7)
    assert_same(blocks.RCAB(12, 4, res_scale), rcan_arch.RCAB(12, 4, res_scale), x)
    assert_same(blocks.ResidualGroup(12, 3, 4, res_scale), rcan_arch.ResidualGroup(12, 3, 4, res_scale), x)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_upsample(rcan_arch, scale: int) -> None:
    assert_same(blocks.Upsample(scale, 6), rcan_arch.Upsample(scale, 6), torch.randn(1, 6, 4, 5))


def test_rcan_weights_are_hans_backbone(rcan_arch) -> None:
    """A HAN that uses only the output of conv_after_body equals RCAN: same keys, same pixels."""
    settings = {"num_feat": 8, "num_group": 2, "num_block": 2, "squeeze_factor": 4, "upscale": 4}
    rcan = rcan_arch.RCAN(3, 3, **settings)
    han = HAN(3, 3, **settings)
    missing, unexpected = han.load_state_dict(rcan.state_dict(), strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"lam", "csam", "conv_lam", "conv_fuse"}
    with torch.no_grad():
        han.conv_fuse.weight.zero_()
        han.conv_fuse.bias.zero_()
        han.conv_fuse.weight[range(8), range(8), 1, 1] = 1  # the CSAM half of the concatenation
    lq = torch.rand(1, 3, 9, 6)
    torch.testing.assert_close(han(lq), rcan(lq), rtol=1e-5, atol=1e-6)
