"""The networks of `basicsr bench`: equal weights, equal pixels, and counts checked by hand."""

import importlib.util

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from han_arch.bench.networks import CASES, DTYPES, NETWORKS, BareConvolutions, Size, build, build_ours
from han_arch.bench.report import counts
from han_arch.speed.winograd import WinogradConv2d

TINY = Size(num_block=1, num_feat=8)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bare_convolutions_are_those_of_the_network(scale: int) -> None:
    """PyTorch's FLOP counter counts the same for HAN without attentions and for its bare convolutions."""
    net = build_ours(Size(num_block=1, num_feat=8, scale=scale)).eval()
    net.lam = net.csam = None
    found = []
    for module in (net, BareConvolutions(net)):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            module(torch.rand(1, 3, 12, 12))
        found.append(counter.get_flop_counts()["Global"][torch.ops.aten.convolution])
    assert found[0] == found[1]


def test_both_hans_have_the_same_weights() -> None:
    pytest.importorskip("super_image", reason="super-image is not installed (pip install super-image)")
    ours, theirs = build("ours", TINY), build("authors", TINY)
    lq = torch.rand(1, 3, 12, 10)
    with torch.no_grad():
        difference = 255 * ours(lq) - theirs(NETWORKS["authors"].input_range * lq)
    assert difference.abs().max() < 1e-3


@pytest.mark.usefixtures("basicsr")
def test_both_memory_formats_give_the_same_pixels() -> None:
    lq = torch.rand(1, 3, 12, 10)
    keys = ["rcan"] + (["authors"] if importlib.util.find_spec("super_image") else [])
    for key in keys:
        plain, channels_last = (build(name, TINY).eval() for name in (key, f"{key}-channels-last"))
        with torch.no_grad():
            wanted = plain(NETWORKS[key].input_range * lq)
            found = channels_last(NETWORKS[f"{key}-channels-last"].input_range * lq)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("basicsr")
def test_counts_by_hand() -> None:
    """The count equals weights times positions, summed over all convolutions of RCAN."""
    nets = {key: build(key, TINY) for key in ("rcan", "edsr", "rcan-channels-last")}
    lines = counts(nets).splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| RCAN (BasicSR)", "| EDSR (BasicSR)"]
    macs = 0
    for name, module in nets["rcan"].named_modules():
        if isinstance(module, torch.nn.Conv2d):
            scale = 4 if name == "conv_last" else 2 if name == "upsample.2" else 1
            positions = 1 if ".attention." in name else (96 * scale) ** 2
            macs += module.weight.numel() * positions * (4 if ".attention." in name else 1)  # counted at LR 48, times 4
    parameters = sum(parameter.numel() for parameter in nets["rcan"].parameters())
    assert lines[0] == f"| RCAN (BasicSR) | {parameters:,} | {macs / 1e9:.1f} G |"


def test_a_copy_keeps_winograd(winograd_compiler: None) -> None:
    net = NETWORKS["ours-winograd"].copy(build("ours-winograd", Size(num_block=1, num_feat=16)))
    assert isinstance(net.body[0].conv, WinogradConv2d)


def test_every_record_is_measured_and_its_limit_exists() -> None:
    for network in NETWORKS.values():
        assert set(network.cases) <= set(CASES)
        assert any(network.fits(case, dtype) for case in CASES for dtype in DTYPES)
        assert network.limit is None or network.limit in NETWORKS
    titles = [network.title for network in NETWORKS.values()]
    assert len(titles) == len(set(titles))
