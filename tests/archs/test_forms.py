"""Compare LAM's forms, the fusions and several CSAMs with loops and hand-written networks."""

import math

import pytest
import torch

from han_arch import CSAM, HAN, LAM
from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.fused import layer_correlation

SMALL = {"num_feat": 8, "num_group": 3, "num_block": 1, "squeeze_factor": 4, "upscale": 2}


def feats_of(n: int = 4, b: int = 2, c: int = 3, h: int = 4, w: int = 5, size: float = 0.3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(n, b, c, h, w, dtype=torch.float64, generator=generator) + 0.5
    return [size * one for one in maps]


def naive_weights(feats: list[torch.Tensor], form: str, temperature: float) -> torch.Tensor:
    """Compute the attention weights of each image, number by number."""
    b, n = feats[0].shape[0], len(feats)
    weights = torch.empty(b, n, n, dtype=torch.float64)
    for image in range(b):
        flat = [feat[image].flatten().tolist() for feat in feats]
        dot = [[sum(x * y for x, y in zip(one, other, strict=True)) for other in flat] for one in flat]
        for i in range(n):
            logits = {
                "released": [max(dot[i]) - dot[i][j] for j in range(n)],
                "paper": [dot[i][j] for j in range(n)],
                "cosine": [dot[i][j] / math.sqrt(dot[i][i] * dot[j][j]) / temperature for j in range(n)],
            }[form]
            exponentials = [math.exp(logit) for logit in logits]
            weights[image, i] = torch.tensor([e / sum(exponentials) for e in exponentials], dtype=torch.float64)
    return weights


@pytest.mark.parametrize("form", LAM_FORMS)
def test_every_form_equals_the_loops(form: str) -> None:
    feats = feats_of()
    lam = LAM(form).double()
    lam.alpha.data.fill_(0.7)
    if form == "cosine":
        assert lam.log_temperature.exp().item() == pytest.approx(0.1)
        lam.log_temperature.data.fill_(math.log(0.4))
    weights = naive_weights(feats, form, temperature=0.4)
    torch.testing.assert_close(lam.attention(feats), weights, rtol=1e-10, atol=1e-12)
    stack = torch.stack(feats, 1)
    expected = stack + 0.7 * torch.einsum("bij,bjchw->bichw", weights, stack)
    torch.testing.assert_close(lam(feats), expected.flatten(1, 2), rtol=1e-10, atol=1e-12)


def test_forms_differ_when_they_saturate() -> None:
    feats = feats_of(size=30)
    assert torch.equal(
        LAM("paper").attention(feats).argmax(-1), torch.arange(4).expand(2, 4)
    )  # each layer picks itself
    energy = layer_correlation(feats)
    released = LAM("released").double().attention(feats)
    assert torch.equal(released.argmax(-1), energy.argmin(-1))  # the least similar layer
    assert released.max() > 0.999
    cosine = LAM("cosine").double().attention(feats)
    torch.testing.assert_close(cosine, LAM("cosine").double().attention(feats_of(size=0.1)))  # independent of size
    related = [feats[0] + 0.7 * feat for feat in feats]  # like the outputs of residual groups
    assert LAM("cosine").double().attention(related).max() < 0.9
    assert LAM("released").double().attention(related).max() > 0.999


def test_cosine_of_a_dead_map_is_finite() -> None:
    feats = [torch.zeros(1, 2, 3, 3, requires_grad=True), torch.ones(1, 2, 3, 3, requires_grad=True)]
    weights = LAM("cosine").attention(feats)
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.5, 0.5]))
    weights.square().sum().backward()
    assert all(feat.grad.isfinite().all() for feat in feats)


def test_only_an_unsaturated_softmax_passes_gradients() -> None:
    saturated, soft = ([feat.requires_grad_() for feat in feats_of(size=size)] for size in (1000, 0.1))
    for feats, passes in ((saturated, False), (soft, True)):
        weights = LAM("released").double().attention(feats)
        stack = torch.stack(feats, 1)
        energy = torch.einsum("bichw,bjchw->bij", stack, stack)
        plain = (energy.amax(-1, keepdim=True) - energy).softmax(-1)
        factors = torch.arange(weights.numel(), dtype=weights.dtype).view_as(weights)
        ours = torch.autograd.grad((weights * factors).sum(), feats, allow_unused=True, materialize_grads=True)
        theirs = torch.autograd.grad((plain * factors).sum(), feats)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)
            assert other.any() == passes


@pytest.mark.parametrize("form", LAM_FORMS)
def test_network_with_each_form_and_sum_fusion(form: str) -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, lam_form=form, fusion="sum", img_range=1.0, **SMALL).double()
    net.lam.alpha.data.fill_(0.5)
    net.csam.beta.data.fill_(0.4)
    lq = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    shallow = net.conv_first(lq - net.mean)
    feats = [shallow]
    for group in net.body:
        feats.append(group(feats[-1]))
    feats = [net.conv_after_body(feats[-1]), *feats[:0:-1]]
    layers = torch.einsum(
        "bij,bjchw->bichw", torch.eye(4) + 0.5 * naive_weights(feats, form, 0.1), torch.stack(feats, 1)
    )
    expected = shallow + net.conv_lam(layers.flatten(1, 2)) + net.csam(feats[0])
    torch.testing.assert_close(net.features(lq), expected, rtol=1e-8, atol=1e-9)
    assert not any(key.startswith("conv_fuse") for key in net.state_dict())


def test_several_csams_follow_the_last_groups() -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, num_csam=3, **SMALL).double()
    assert sorted(net.group_csam) == ["1", "2"]
    betas = {key: value for key, value in net.state_dict().items() if key.endswith(".beta")}
    assert set(betas) == {"csam.beta", "group_csam.1.beta", "group_csam.2.beta"}
    for number, csam in enumerate([net.csam, *net.group_csam.values()]):
        csam.beta.data.fill_(0.3 + number)
    net.lam.alpha.data.fill_(0.2)
    lq = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    shallow = net.conv_first((lq - net.mean) * 255)
    group1 = net.body[0](shallow)
    group2 = net.group_csam["1"](net.body[1](group1))
    group3 = net.group_csam["2"](net.body[2](group2))
    after_body = net.conv_after_body(group3)
    layered = net.conv_lam(net.lam([after_body, group3, group2, group1]))
    expected = net.conv_fuse(torch.cat([net.csam(after_body), layered], 1)) + shallow
    torch.testing.assert_close(net.features(lq), expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("num_csam", [1, 2, 4])
@pytest.mark.parametrize("fusion", ["conv", "sum"])
@pytest.mark.parametrize("form", LAM_FORMS)
def test_gradients_reach_every_parameter_of_every_form(form: str, fusion: str, num_csam: int) -> None:
    torch.manual_seed(0)
    # Small features, so the softmax passes gradients; many squeezed channels, so ReLU keeps some.
    net = HAN(3, 3, 16, 3, 1, 2, 2, img_range=0.1, lam_form=form, fusion=fusion, num_csam=num_csam)
    for module in net.modules():
        if isinstance(module, CSAM):
            module.beta.data.fill_(0.1)
    net.lam.alpha.data.fill_(0.1)
    net(torch.rand(2, 3, 6, 6)).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_without_spatial_attention_the_groups_have_none() -> None:
    net = HAN(3, 3, num_csam=4, spatial_attention=None, **SMALL)
    assert not any("csam" in key for key in net.state_dict())
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)
