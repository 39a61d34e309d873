"""The complete HAN: interface, sizes, wrong arguments, number of parameters."""

import pytest
import torch

from han_arch import HAN

SMALL = {"num_feat": 8, "num_group": 3, "num_block": 1, "squeeze_factor": 4}
MEAN_SHIFT_PARAMETERS = 24  # two constant 1x1 convolutions of the authors; here a buffer replaces them


@pytest.mark.parametrize(
    ("upscale", "parameters"), [(2, 15_924_057), (3, 16_108_697), (4, 16_071_769), (8, 16_219_481)]
)
def test_parameter_counts_of_the_released_network(upscale: int, parameters: int) -> None:
    net = HAN(3, 3, upscale=upscale)
    assert sum(p.numel() for p in net.parameters()) + MEAN_SHIFT_PARAMETERS == parameters


@pytest.mark.parametrize("upscale", [2, 3, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_output_size(upscale: int, channels: int) -> None:
    net = HAN(channels, channels, upscale=upscale, **SMALL)
    out = net(torch.rand(2, channels, 5, 7))
    assert out.shape == (2, channels, 5 * upscale, 7 * upscale)


@pytest.mark.parametrize(("num_group", "num_feat"), [(1, 4), (2, 10), (7, 6), (12, 4)])
def test_any_number_of_groups_and_features(num_group: int, num_feat: int) -> None:
    net = HAN(3, 3, num_feat=num_feat, num_group=num_group, num_block=1, squeeze_factor=2, upscale=2)
    assert net.conv_lam.weight.shape == (num_feat, (num_group + 1) * num_feat, 3, 3)
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)


def test_forward_follows_the_description() -> None:
    """HAN equals the documented steps, one by one, with alpha and beta not 0."""
    torch.manual_seed(0)
    net = HAN(3, 3, upscale=2, **SMALL).double()
    net.lam.alpha.data.fill_(0.3)
    net.csam.beta.data.fill_(0.5)
    lq = torch.rand(2, 3, 6, 5, dtype=torch.float64)
    mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float32).double().view(1, 3, 1, 1)
    shallow = net.conv_first((lq - mean) * 255)
    group1 = net.body[0](shallow)
    group2 = net.body[1](group1)
    group3 = net.body[2](group2)
    after_body = net.conv_after_body(group3)
    layered = net.conv_lam(net.lam([after_body, group3, group2, group1]))
    fused = net.conv_fuse(torch.cat([net.csam(after_body), layered], 1)) + shallow
    expected = net.conv_last(net.upsample(fused)) / 255 + mean
    torch.testing.assert_close(net(lq), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.tail(net.features(lq)), expected, rtol=1e-9, atol=1e-9)


def test_state_dict_keys() -> None:
    keys = set(HAN(3, 3, **SMALL).state_dict())
    assert {"lam.alpha", "csam.beta", "csam.weight", "csam.bias", "conv_lam.weight", "conv_fuse.bias"} <= keys
    assert "mean" not in keys
    assert {key.split(".")[0] for key in keys} == {
        "conv_first", "body", "conv_after_body", "upsample", "conv_last", "lam", "csam", "conv_lam", "conv_fuse",
    }  # fmt: skip


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    # Eight squeezed channels, so the ReLU leaves some alive in every block.
    net = HAN(3, 3, num_feat=16, num_group=3, num_block=2, squeeze_factor=2, upscale=2)
    net.csam.beta.data.fill_(0.1)  # at 0 the gate before it gets no gradient, by design
    net(torch.rand(1, 3, 8, 8)).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_starting_gradients_reach_alpha_and_beta() -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, upscale=2, **SMALL)
    net(torch.rand(1, 3, 8, 8)).square().mean().backward()
    assert net.lam.alpha.grad.abs() > 0
    assert net.csam.beta.grad.abs() > 0


def test_without_attention_the_convolutions_stay() -> None:
    torch.manual_seed(0)
    with_attention = HAN(3, 3, upscale=2, **SMALL)
    without = HAN(3, 3, upscale=2, layer_attention=None, spatial_attention=None, **SMALL)
    weights = with_attention.state_dict()
    left_out = {"lam.alpha", "csam.beta", "csam.weight", "csam.bias"}
    assert set(weights) - set(without.state_dict()) == left_out
    without.load_state_dict({key: value for key, value in weights.items() if key not in left_out})
    lq = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(with_attention(lq), without(lq))  # alpha = beta = 0: the same network


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_gives_finite_pixels(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, num_feat=16, num_group=4, num_block=2, squeeze_factor=4, upscale=2)
    net.lam.alpha.data.fill_(0.2)
    net.csam.beta.data.fill_(0.2)
    lq = torch.rand(1, 3, 48, 48)
    with torch.autocast("cpu", dtype):
        out = net(lq)
    assert out.isfinite().all()
    assert (out - net(lq)).abs().mean() < 0.02


def test_output_is_not_clamped() -> None:
    net = HAN(3, 3, upscale=2, **SMALL)
    net.conv_last.bias.data.fill_(1000)
    assert net(torch.rand(1, 3, 4, 4)).min() > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_feat": 8}, "num_feat 8, squeeze_factor 16"),
        ({"upscale": 6}, "one of 2, 3, 4, 8; got 6"),
        ({"upscale": 1}, "one of 2, 3, 4, 8; got 1"),
        ({"rgb_mean": (0.5,)}, "num_in_ch = 3 values; got 1"),
        ({"num_out_ch": 1}, "got num_in_ch 3, num_out_ch 1"),
        ({"num_in_ch": 4, "num_out_ch": 4}, "num_in_ch 4 needs rgb_mean"),
        ({"num_group": 0}, "at least 1"),
        ({"layer_attention": "LAN"}, "did you mean LAM"),
        ({"layer_attention": "CSAM"}, "layer_attention .* CSAM is a spatial component"),
        ({"spatial_attention": "Nonsense"}, "spatial_attention 'Nonsense'; known: CSAM, ~"),
        ({"lam_form": "other"}, "released, paper, cosine; got 'other'"),
        ({"fusion": "mean"}, "conv, sum; got 'mean'"),
        ({"num_csam": 0}, "got 0"),
        ({"num_csam": 12}, "num_group \\+ 1 = 11; got 12"),
    ],
)
def test_mistakes_in_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HAN(**{"num_in_ch": 3, "num_out_ch": 3} | arguments)


def test_wrong_number_of_input_channels() -> None:
    with pytest.raises(ValueError, match=r"\(b, 3, h, w\); got \(1, 1, 4, 4\)"):
        HAN(3, 3, **SMALL)(torch.rand(1, 1, 4, 4))


def test_rgb_mean() -> None:
    assert HAN(1, 1, **SMALL).mean.item() == pytest.approx((0.4488 + 0.4371 + 0.4040) / 3)
    assert HAN(4, 4, rgb_mean=(0, 0, 0, 1), **SMALL)(torch.rand(1, 4, 3, 3)).shape == (1, 4, 12, 12)
