"""Compare the numbers of `basicsr inspect` for LAM and CSAM with the network's own modules."""

import pytest
import torch

from han_arch import HAN
from han_arch.errors import UserError
from han_arch.inspection.attentions import (
    SpatialAttention,
    attentions,
    channels_to_show,
)

SMALL = {"num_feat": 8, "num_group": 3, "num_block": 1, "squeeze_factor": 4, "upscale": 2}


def network(**settings) -> HAN:
    torch.manual_seed(0)
    net = HAN(3, 3, **(SMALL | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("settings", [{}, {"lam_form": "cosine"}, {"lam_form": "paper", "num_csam": 2}])
def test_lam_is_what_the_network_computes(settings: dict) -> None:
    """The reference is what LAM's own forward adds to the feature maps."""
    net = network(**settings)
    net.lam.alpha.fill_(-0.4)
    lq = torch.rand(1, 3, 10, 13)
    passed: list[list[torch.Tensor]] = []
    own_mixing = net.lam.mixing
    net.lam.mixing = lambda feats: passed.append(feats) or own_mixing(feats)
    net(lq)
    del net.lam.mixing
    feats = passed[0]
    found = attentions(net, lq).layer
    stack = torch.stack(feats, dim=1)
    added = (net.lam(feats).view_as(stack) - stack)[0].flatten(1)
    expected = added.norm(dim=1) / stack[0].flatten(1).norm(dim=1)
    torch.testing.assert_close(found.gain.float(), expected, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(found.weights.float(), net.lam.attention(feats)[0])
    assert found.names == ("conv_after_body", "group 3", "group 2", "group 1")
    assert found.alpha == pytest.approx(-0.4)


def test_csam_gate_is_what_the_network_multiplies_by() -> None:
    net = network()
    net.csam.beta.fill_(0.5)
    seen = []
    net.csam.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    lq = torch.rand(1, 3, 9, 7)
    net(lq)
    feat, output = seen[0]
    found = attentions(net, lq).spatial
    torch.testing.assert_close(feat[0] * (1 + found.beta * found.gate), output[0])


def test_missing_attentions_are_named() -> None:
    found = attentions(network(layer_attention=None, spatial_attention=None), torch.rand(1, 3, 8, 8))
    assert "no LAM" in found.layer
    assert "no CSAM" in found.spatial


def test_no_hooks_remain_in_the_network() -> None:
    net = network()
    lq = torch.rand(1, 3, 8, 8)
    attentions(net, lq)
    assert not any(module._forward_hooks for module in net.modules())


def test_channels_that_vary_most_come_first() -> None:
    gate = torch.full((4, 5, 5), 0.5)
    gate[2, 0] = 1.0
    gate[1, 0, 0] = 0.6
    assert channels_to_show(SpatialAttention(1.0, gate), None)[:2] == [2, 1]


@pytest.mark.parametrize("wanted", [[4], [-1], list(range(4)) * 3])
def test_channels_must_exist_and_be_few(wanted: list[int]) -> None:
    spatial = SpatialAttention(1.0, torch.zeros(4, 2, 2))
    with pytest.raises(UserError, match=r"at most 8.*0 to 3"):
        channels_to_show(spatial, wanted)
    assert channels_to_show(spatial, [3, 0]) == [3, 0]
    assert channels_to_show("this network has no CSAM", wanted) == []
