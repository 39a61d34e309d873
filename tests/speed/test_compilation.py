"""`compile_blocks` compiles the right modules and changes nothing else."""

import copy
import shutil

import pytest
import torch
from torch import nn

from han_arch import HAN
from han_arch.speed.compilation import compile_blocks


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """List of the modules that the test compiles."""
    modules: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, **_: modules.append(module))
    return modules


def test_the_groups_are_compiled_and_keys_stay(compiled: list[nn.Module]) -> None:
    net = HAN(3, 3, num_feat=8, num_group=2, num_block=1, squeeze_factor=2)
    keys = list(net.state_dict())
    compile_blocks(net)
    assert compiled == list(net.body)
    assert list(net.state_dict()) == keys


def test_a_network_without_body_is_compiled_whole(compiled: list[nn.Module]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1))
    compile_blocks(net)
    assert compiled == [net]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on CPU")
def test_results_and_gradients_stay() -> None:
    torch.manual_seed(0)
    plain = HAN(3, 3, num_feat=8, num_group=2, num_block=2, squeeze_factor=2)
    blocks = copy.deepcopy(plain)
    compile_blocks(blocks)
    lq = torch.rand(2, 3, 12, 11)
    outputs = [net(lq) for net in (plain, blocks)]
    assert 255 * (outputs[0] - outputs[1]).abs().max() < 1e-3
    for output in outputs:
        output.square().sum().backward()
    for wanted, got in zip(plain.parameters(), blocks.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-3, atol=1e-4 * float(wanted.grad.abs().max()))
