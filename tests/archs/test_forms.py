"""LAM's forms, the fusions and several CSAMs, against loops and modules put together by hand."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from han_arch import CSAM, HAN, LAM
from han_arch.archs import layer_mixing
from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.layer_mixing import conv_of_mixture, layer_correlation

SMALL = {"num_feat": 8, "num_group": 3, "num_block": 1, "squeeze_factor": 4, "upscale": 2}


def feats_of(n: int = 4, b: int = 2, c: int = 3, h: int = 4, w: int = 5, size: float = 0.3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(n, b, c, h, w, dtype=torch.float64, generator=generator) + 0.5
    return [size * one for one in maps]


def naive_weights(feats: list[torch.Tensor], form: str, temperature: float) -> torch.Tensor:
    """The attention weights of each image, number by number."""
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


def test_forms_differ_as_described_where_they_saturate() -> None:
    feats = feats_of(size=30)
    assert torch.equal(LAM("paper").attention(feats).argmax(-1), torch.arange(4).expand(2, 4))  # each itself
    energy = layer_correlation(feats)
    released = LAM("released").double().attention(feats)
    assert torch.equal(released.argmax(-1), energy.argmin(-1))  # the least similar
    assert released.max() > 0.999
    cosine = LAM("cosine").double().attention(feats)
    torch.testing.assert_close(cosine, LAM("cosine").double().attention(feats_of(size=0.1)))  # no size
    related = [feats[0] + 0.7 * feat for feat in feats]  # as the residual groups' outputs are
    assert LAM("cosine").double().attention(related).max() < 0.9
    assert LAM("released").double().attention(related).max() > 0.999


def test_cosine_of_a_dead_map_is_finite() -> None:
    feats = [torch.zeros(1, 2, 3, 3, requires_grad=True), torch.ones(1, 2, 3, 3, requires_grad=True)]
    weights = LAM("cosine").attention(feats)
    torch.testing.assert_close(weights[0, 0], torch.tensor([0.5, 0.5]))
    weights.square().sum().backward()
    assert all(feat.grad.isfinite().all() for feat in feats)


def test_a_saturated_softmax_passes_no_gradient_and_a_soft_one_does() -> None:
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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("form", [*LAM_FORMS, None])
def test_folded_mixing_equals_the_plain_one_with_its_gradients(form: str | None, channels_last: bool) -> None:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(1)
    weight = torch.randn(5, 12, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    feats = [feat.contiguous(memory_format=memory_format).requires_grad_() for feat in feats_of()]
    lam = LAM(form or "released").double()
    lam.alpha.data.fill_(0.6)
    inputs = [*feats, weight, bias, *([] if form is None else lam.parameters())]

    folded = conv_of_mixture(weight, bias, None if form is None else lam.mixing(feats), feats)
    if form is None:
        layers = torch.cat(feats, 1)
    else:
        stack = torch.stack(feats, 1)
        energy = torch.einsum("bichw,bjchw->bij", stack, stack)
        norms = energy.diagonal(dim1=1, dim2=2).sqrt()
        logits = {
            "released": energy.amax(-1, keepdim=True) - energy,
            "paper": energy,
            "cosine": energy / norms[:, None] / norms[:, :, None] / lam.log_temperature.exp()
            if form == "cosine"
            else energy,
        }[form]
        layers = (stack + lam.alpha * torch.einsum("bij,bjchw->bichw", logits.softmax(-1), stack)).flatten(1, 2)
    plain = torch.nn.functional.conv2d(layers, weight, bias, padding=1)
    torch.testing.assert_close(folded, plain, rtol=1e-10, atol=1e-10)
    target = torch.randn_like(plain)
    ours = torch.autograd.grad((folded * target).sum(), inputs)
    theirs = torch.autograd.grad((plain * target).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


class LargestResult(TorchDispatchMode):
    """Remembers the most numbers that an operation newly wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, torch.Tensor)}
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in known:
                self.numbers = max(self.numbers, value.numel())
        return result


@pytest.mark.parametrize("batch", [1, 3])
def test_no_operation_builds_a_second_stack(batch: int) -> None:
    """Neither forward nor backward; the plain form would, as the counter shows."""
    n, c, side = 6, 8, 200
    stack_numbers = batch * n * c * side * side
    torch.manual_seed(0)
    maps = [torch.rand(batch, c, side, side).contiguous(memory_format=torch.channels_last) for _ in range(n)]
    feats = [one.requires_grad_() for one in maps]
    weight, bias, lam = torch.randn(c, n * c, 3, 3, requires_grad=True), torch.zeros(c), LAM("cosine")
    with LargestResult() as folded:
        conv_of_mixture(weight, bias, lam.mixing(feats), feats).sum().backward()
    assert folded.numbers < 0.6 * stack_numbers
    with LargestResult() as plain:
        torch.nn.functional.conv2d(lam(feats), weight, bias, padding=1)
    assert plain.numbers >= stack_numbers


@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_larger_than_a_slice(monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    """Inner products and their gradient from many slices, the last of them shorter, equal the plain ones."""
    monkeypatch.setattr(layer_mixing, "_SLICE_NUMBERS", 2 * 4 * 7)  # 7 numbers a map and image
    format = torch.channels_last if channels_last else torch.contiguous_format
    feats = [feat.to(memory_format=format).requires_grad_() for feat in feats_of()]
    assert feats[0].numel() / 2 % 7  # the last slice is not full
    flat = torch.stack(feats, dim=1).flatten(2)
    plain = torch.einsum("bik,bjk->bij", flat, flat)
    sliced = layer_mixing.layer_correlation(feats)
    torch.testing.assert_close(sliced, plain)
    upstream = torch.rand_like(plain)
    for got, wanted in zip(
        torch.autograd.grad(sliced, feats, upstream), torch.autograd.grad(plain, feats, upstream), strict=True
    ):
        torch.testing.assert_close(got, wanted)
    assert torch.autograd.gradcheck(lambda *maps: layer_mixing.layer_correlation(list(maps)), feats)


def test_a_map_of_a_real_size_takes_several_slices() -> None:
    feats = [torch.rand(1, 8, 150, 151, dtype=torch.float64) for _ in range(7)]
    assert sum(feat.numel() for feat in feats) > layer_mixing._SLICE_NUMBERS
    flat = torch.stack(feats, dim=1).flatten(2)
    torch.testing.assert_close(layer_mixing.layer_correlation(feats), flat @ flat.transpose(1, 2))


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


def test_several_csams_act_where_the_groups_end() -> None:
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
    # Small features, so that the softmax passes gradients, and squeezed channels enough for some to be alive.
    net = HAN(3, 3, 16, 3, 1, 2, 2, img_range=0.1, lam_form=form, fusion=fusion, num_csam=num_csam)
    for module in net.modules():
        if isinstance(module, CSAM):
            module.beta.data.fill_(0.1)
    net.lam.alpha.data.fill_(0.1)
    net(torch.rand(2, 3, 6, 6)).square().mean().backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_no_spatial_attention_means_none_in_the_groups() -> None:
    net = HAN(3, 3, num_csam=4, spatial_attention=None, **SMALL)
    assert not any("csam" in key for key in net.state_dict())
    assert net(torch.rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)
