"""Networks that use Winograd's algorithm: pixels and gradients equal direct convolutions and the authors' code."""

import copy
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from han_arch import HAN, load_model
from han_arch.bench.networks import Size, build
from han_arch.inference.strips import super_resolve
from han_arch.inference.variants import chop, self_ensemble
from han_arch.speed.winograd import WinogradConv2d, use_winograd

pytestmark = pytest.mark.usefixtures("winograd_compiler")


def fast_copy(net: nn.Module) -> nn.Module:
    fast = copy.deepcopy(net)
    use_winograd(fast)
    return fast


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_all_convolutions_but_the_first_and_last(scale: int) -> None:
    net = HAN(3, 3, num_feat=32, num_group=2, num_block=2, squeeze_factor=8, upscale=scale)
    fast = fast_copy(net)
    names = {name for name, module in fast.named_modules() if isinstance(module, WinogradConv2d)}
    convs = {name for name, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
    assert convs - names == {"conv_first", "conv_last"}
    lq = torch.rand(1, 3, 27, 33)
    with torch.inference_mode():
        assert 255 * (super_resolve(fast, lq, 300) - net(lq)).abs().max() < 1e-3
        assert not torch.equal(fast.upsample(fast.features(lq)), net.upsample(fast.features(lq)))


def test_full_size_within_a_thousandth_of_a_grey_level() -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, upscale=4).eval()
    with torch.no_grad():
        net.lam.alpha.fill_(0.3)
        net.csam.beta.fill_(-0.2)
    lq = torch.rand(1, 3, 25, 31)
    with torch.inference_mode():
        plain, fast = net(lq), fast_copy(net)(lq)
    assert 0 < 255 * (fast - plain).abs().max() < 1e-3


@pytest.mark.parametrize("variant", ["full", "chop", "self_ensemble"])
@pytest.mark.parametrize("scale", [2, 4])
def test_authors_outputs(shared_data, scale: int, variant: str) -> None:
    known = np.load(shared_data / "parity" / f"official_han_x{scale}.npz")
    net = load_model(shared_data / "parity" / f"official_han_x{scale}.pt")
    use_winograd(net)
    lq = torch.from_numpy(known["lq"]).permute(2, 0, 1)[None] / 255
    run = {"full": net, "chop": lambda lq: chop(net, lq, scale), "self_ensemble": lambda lq: self_ensemble(net, lq)}
    with torch.inference_mode():
        out = 255 * run[variant](lq)[0].numpy()
    np.testing.assert_allclose(out, known[variant], rtol=0, atol=1e-3)


def test_super_image_at_full_size() -> None:
    pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    theirs, ours = build("authors", Size()), build("ours-winograd", Size())
    lq = torch.rand(1, 3, 24, 29)
    with torch.inference_mode():
        difference = 255 * ours.eval()(lq) - theirs.eval()(255 * lq)
    assert difference.abs().max() < 1e-3


def test_gradients_of_a_network() -> None:
    torch.manual_seed(0)
    net = HAN(3, 3, num_feat=32, num_group=2, num_block=2, squeeze_factor=8, upscale=2)
    fast = fast_copy(net)
    lq, gt = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 48, 48)
    for one in (net, fast):
        F.l1_loss(one(lq), gt).backward()
    for (name, wanted), got in zip(net.named_parameters(), fast.parameters(), strict=True):
        difference = float((got.grad - wanted.grad).norm() / wanted.grad.norm().clamp(min=1e-8))
        assert difference < 1e-3, name


@pytest.mark.parametrize("name", ["EDSR", "RCAN"])
def test_basicsrs_networks(basicsr: ModuleType, name: str) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    net = ARCH_REGISTRY.get(name)(3, 3, num_feat=32, num_block=2, upscale=2)
    lq = torch.rand(1, 3, 24, 40)
    with torch.inference_mode():
        assert 255 * (fast_copy(net)(lq) - net(lq)).abs().max() < 1e-3
