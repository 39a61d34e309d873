"""Compare the fast forms with the plain forms: outputs, gradients, memory."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from han_arch import HAN, LAM
from han_arch.archs import fused
from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.blocks import ChannelAttention, Upsample


def double(*shape: int, size: float = 1.0) -> Tensor:
    return (size * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


def random_feats(n: int = 4, b: int = 2, c: int = 3, h: int = 4, w: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.3 * (torch.randn(b, c, h, w, dtype=torch.float64, generator=generator) + 0.5) for _ in range(n)]


def assert_same_gradients(one: Tensor, other: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    upstream = torch.randn_like(one)
    gradients = [torch.autograd.grad(result, inputs, upstream) for result in (one, other)]
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        *({"lam_form": form, "fusion": fusion} for form in LAM_FORMS for fusion in ("conv", "sum")),
        {"layer_attention": None},
        {"num_csam": 3},
        *({"upscale": scale} for scale in (3, 4, 8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_the_whole_network_in_both_forms(settings: dict, channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    arguments = {"num_feat": 8, "num_group": 3, "num_block": 2, "squeeze_factor": 2, "upscale": 2, "res_scale": 0.7}
    fast = HAN(3, 3, img_range=0.3, **(arguments | settings)).double()
    with torch.no_grad():
        for name, parameter in fast.named_parameters():
            if name.endswith(("alpha", "beta")):
                parameter.fill_(0.4)
    if channels_last:
        fast.to(memory_format=torch.channels_last)
    plain = copy.deepcopy(fast)
    lq = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    calls: list[str] = []
    for name in ("conv_lam", "upsample"):  # in the plain form HAN calls these modules themselves
        plain.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
        fast.get_submodule(name).register_forward_hook(lambda *_: calls.append("fast"))
    results = [fast(lq)]
    monkeypatch.setattr(fused, "enabled", lambda: False)
    results.append(plain(lq))
    assert calls == ["conv_lam", "upsample"]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)
    for result in results:
        result.square().sum().backward()
    for (name, one), other in zip(fast.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-10, msg=name)


def test_compilers_take_the_plain_form() -> None:
    assert fused.enabled()
    compiled = torch.compile(lambda x: x + int(fused.enabled()), backend="eager", fullgraph=True)
    assert compiled(torch.zeros(1)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_channel_gate_equals_its_modules(dtype: torch.dtype) -> None:
    """The fast form equals the layers of ChannelAttention, called one by one."""
    torch.manual_seed(0)
    gate = ChannelAttention(8, 2).to(dtype)
    x, y = torch.randn(2, 2, 8, 5, 6, dtype=dtype)
    wanted = x.double() + 0.3 * gate.double().attention(y.double()) * y.double()
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(gate.to(dtype)(x, y, 0.3).double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("scale", [1, 0.3])
def test_channel_gate_gradients_against_finite_differences(scale: float) -> None:
    torch.manual_seed(0)
    inputs = (double(2, 4, 3, 2), double(2, 4, 3, 2), double(2, 4), double(2), double(4, 2), double(4))
    assert gradcheck(lambda x, y, *weights: fused.gated_residual(x, y, weights, scale), inputs)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_upsampling_in_pixel_order(scale: int, bias: bool) -> None:
    torch.manual_seed(0)
    stages = Upsample(scale, 6).double()
    if not bias:
        for conv in list(stages)[::2]:
            conv.bias = None
    x = double(2, 6, 4, 5)
    assert_same_gradients(fused.upsample(stages, x), stages(x), [x, *stages.parameters()])


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("form", [*LAM_FORMS, None])
def test_convolution_of_a_mixture(form: str | None, channels_last: bool) -> None:
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    torch.manual_seed(1)
    conv = nn.Conv2d(12, 5, 3, padding=1).double()
    feats = [feat.contiguous(memory_format=memory_format).requires_grad_() for feat in random_feats()]
    lam = None if form is None else LAM(form).double()
    inputs = [*feats, *conv.parameters()]
    if lam is None:
        mixing, layers = None, torch.cat(feats, 1)
    else:
        lam.alpha.data.fill_(0.6)
        inputs += lam.parameters()
        stack = torch.stack(feats, 1)
        energy = torch.einsum("bichw,bjchw->bij", stack, stack)
        norms = energy.diagonal(dim1=1, dim2=2).sqrt()
        logits = {
            "released": energy.amax(-1, keepdim=True) - energy,
            "paper": energy,
            "cosine": energy / norms[:, None] / norms[:, :, None] / 0.1,
        }[form]
        if form == "cosine":
            logits = logits * 0.1 / lam.log_temperature.exp()
        mixing = lam.mixing(feats)
        layers = (stack + lam.alpha * torch.einsum("bij,bjchw->bichw", logits.softmax(-1), stack)).flatten(1, 2)
    assert_same_gradients(fused.conv_of_mixture(conv, mixing, feats), conv(layers), inputs)


@pytest.mark.parametrize("form", LAM_FORMS)
def test_lam_gradients_against_finite_differences(form: str) -> None:
    torch.manual_seed(0)
    feats = [double(2, 1, 3, 2, size=0.4) for _ in range(3)]
    lam, conv = LAM(form).double(), nn.Conv2d(3, 2, 3, padding=1).double()
    lam.alpha.data.fill_(0.7)
    inputs = (*feats, *lam.parameters(), *conv.parameters())

    def folded(*inputs: Tensor) -> Tensor:
        return fused.conv_of_mixture(conv, lam.mixing(list(inputs[:3])), list(inputs[:3]))

    assert gradcheck(lambda *inputs: lam(list(inputs[:3])), inputs[: -len(list(conv.parameters()))])
    assert gradcheck(folded, inputs)


class LargestResult(TorchDispatchMode):
    """Record the size of the largest new tensor that an operation writes."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        known = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)}
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() not in known:
                self.numbers = max(self.numbers, value.numel())
        return result


@pytest.mark.parametrize("batch", [1, 3])
def test_no_operation_builds_a_second_stack(batch: int) -> None:
    """Neither forward nor backward builds a tensor as large as all maps together; the plain form does."""
    n, c, side = 6, 8, 200
    stack_numbers = batch * n * c * side * side
    torch.manual_seed(0)
    maps = [torch.rand(batch, c, side, side).contiguous(memory_format=torch.channels_last) for _ in range(n)]
    feats = [one.requires_grad_() for one in maps]
    conv, lam = nn.Conv2d(n * c, c, 3, padding=1), LAM("cosine")
    with LargestResult() as folded:
        fused.conv_of_mixture(conv, lam.mixing(feats), feats).sum().backward()
    assert folded.numbers < 0.6 * stack_numbers
    with LargestResult() as plain:
        conv(lam(feats))
    assert plain.numbers >= stack_numbers


@pytest.mark.parametrize("channels_last", [False, True])
def test_maps_larger_than_a_slice(monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    """Inner products and their gradient are right for many slices of which the last one is shorter."""
    monkeypatch.setattr(fused, "SLICE_NUMBERS", 2 * 4 * 7)  # 7 values per map and image
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    feats = [feat.to(memory_format=memory_format).requires_grad_() for feat in random_feats()]
    assert feats[0].numel() / 2 % 7  # the last slice is not full
    flat = torch.stack(feats, dim=1).flatten(2)
    assert_same_gradients(fused.layer_correlation(feats), torch.einsum("bik,bjk->bij", flat, flat), feats)
    assert gradcheck(lambda *maps: fused.layer_correlation(list(maps)), feats)


def test_a_map_of_a_real_size_takes_several_slices() -> None:
    feats = [torch.rand(1, 8, 150, 151, dtype=torch.float64) for _ in range(7)]
    assert sum(feat.numel() for feat in feats) > fused.SLICE_NUMBERS
    flat = torch.stack(feats, dim=1).flatten(2)
    torch.testing.assert_close(fused.layer_correlation(feats), flat @ flat.transpose(1, 2))
