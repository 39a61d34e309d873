"""HAN with different image sizes, dtypes, copies and compilers."""

import copy
import pickle
import shutil

import pytest
import torch
from torch.autograd import gradcheck

from han_arch import CSAM, HAN
from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.blocks import ResidualGroup

SMALL = {"num_feat": 16, "num_group": 3, "num_block": 2, "squeeze_factor": 4, "upscale": 2}


def network(**settings) -> HAN:
    torch.manual_seed(0)
    net = HAN(3, 3, **(SMALL | settings))
    net.lam.alpha.data.fill_(0.3)
    net.csam.beta.data.fill_(-0.2)
    return net.eval()


def double(*shape: int, size: float = 1.0) -> torch.Tensor:
    return (size * torch.randn(*shape, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_csam_gradients_against_finite_differences(channels: int) -> None:
    torch.manual_seed(0)
    csam = CSAM().double()
    csam.beta.data.fill_(0.8)
    assert gradcheck(lambda feat, *_: csam(feat), (double(2, channels, 3, 4), *csam.parameters()))


@pytest.mark.parametrize("settings", [{}, {"lam_form": "cosine", "fusion": "sum", "num_csam": 3}])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 1), (3, 5), (17, 11)])
def test_odd_sizes_and_batches(size: tuple[int, int], settings: dict) -> None:
    net = network(**settings).double()
    batch = torch.rand(3, 3, *size, dtype=torch.float64)
    out = net(batch)
    assert out.shape == (3, 3, 2 * size[0], 2 * size[1])
    for image, alone in zip(out, batch, strict=True):
        torch.testing.assert_close(image, net(alone[None])[0], rtol=1e-9, atol=1e-9)


def test_float32_agrees_with_float64() -> None:
    net = network()
    lq = torch.rand(2, 3, 24, 20)
    expected = copy.deepcopy(net).double()(lq.double())
    assert 255 * (net(lq) - expected).abs().max() < 1e-3


def test_input_in_either_memory_format_and_sliced() -> None:
    net = network()
    lq = torch.rand(2, 3, 20, 22)
    expected = net(lq)
    assert torch.equal(net(lq.contiguous(memory_format=torch.channels_last)), expected)
    sliced = torch.rand(4, 3, 40, 44)
    sliced[::2, :, ::2, ::2] = lq
    assert torch.equal(net(sliced[::2, :, ::2, ::2]), expected)


def test_every_map_is_in_channels_last() -> None:
    """Maps are in channels_last, the fastest format, even if input and weights have another format."""
    net = network()
    seen: list[bool] = []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        seen.append(output.is_contiguous(memory_format=torch.channels_last))

    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | ResidualGroup) and getattr(module, "kernel_size", (3, 3)) == (3, 3):
            module.register_forward_hook(look)
    net(torch.rand(1, 3, 9, 8))
    assert len(seen) > 10
    assert all(seen)


def test_network_moves_to_channels_last() -> None:
    net = network()
    lq = torch.rand(1, 3, 9, 8)
    expected = net(lq)
    assert 255 * (net.to(memory_format=torch.channels_last)(lq) - expected).abs().max() < 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_networks(dtype: torch.dtype) -> None:
    net = network(lam_form="cosine")  # rounding makes the released form pick another layer
    lq = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        out = copy.deepcopy(net).to(dtype)(lq.to(dtype))
        assert out.dtype == dtype
        assert out.isfinite().all()
        assert 255 * (out.float() - net(lq)).abs().mean() < 4


@pytest.mark.parametrize("form", LAM_FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_trains_with_finite_gradients(dtype: torch.dtype, form: str) -> None:
    net = network(lam_form=form).train()
    with torch.autocast("cpu", dtype):
        out = net(torch.rand(2, 3, 32, 32))
    assert out.isfinite().all()
    out.float().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in net.parameters())


def test_autocast_gradients_follow_float32() -> None:
    net = network(lam_form="cosine").train()
    lq, gradients = torch.rand(2, 3, 16, 16), []
    for enabled in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = net(lq)
        out.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize("settings", [{}, {"lam_form": "cosine", "num_csam": 2}])
def test_copies(settings: dict) -> None:
    net = network(**settings)
    lq = torch.rand(1, 3, 6, 5)
    assert torch.equal(copy.deepcopy(net)(lq), net(lq))
    assert torch.equal(pickle.loads(pickle.dumps(net))(lq), net(lq))


@pytest.mark.parametrize("settings", [{}, {"lam_form": "paper", "fusion": "sum", "num_csam": 2}])
def test_export_with_dynamic_batch_height_and_width(settings: dict) -> None:
    net = network(num_block=1, **settings)
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(net, (torch.rand(2, 3, 8, 9),), dynamic_shapes=(dynamic,))
    targets = {str(node.target) for node in exported.graph.nodes}
    assert not any("han_arch" in target or "autograd" in target for target in targets)
    for shape in ((2, 3, 8, 9), (1, 3, 5, 12), (4, 3, 13, 6)):
        lq = torch.rand(*shape)
        assert 255 * (exported.module()(lq) - net(lq)).abs().max() < 1e-3


def test_compiled_graph_is_whole_and_dynamic() -> None:
    net = network(lam_form="cosine", num_group=2, num_block=1)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in ((1, 3, 8, 9), (3, 3, 12, 7)):
        lq = torch.rand(*shape)
        assert 255 * (compiled(lq) - net(lq)).abs().max() < 1e-3
    lq = torch.rand(2, 3, 8, 8)
    gradients = []
    for one in (net, compiled):
        net.zero_grad()
        one(lq).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
def test_compiled_code() -> None:
    net = network(num_block=1)
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        assert 255 * (torch.compile(net)(lq) - net(lq)).abs().max() < 1e-3
