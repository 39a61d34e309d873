"""`register()` can be called again, registers all classes or none, and includes components of the user."""

import subprocess
import sys
from types import ModuleType

import pytest
from torch import Tensor, nn

import han_arch
from han_arch.errors import UserError


@pytest.fixture
def registries(basicsr: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return BasicSR's registries; restore them after the test."""
    from basicsr.utils import registry

    han_arch.register()
    for one in (registry.ARCH_REGISTRY, registry.MODEL_REGISTRY):
        monkeypatch.setattr(one, "_obj_map", dict(one._obj_map))
    return registry


def test_names_are_registered_and_again(registries: ModuleType) -> None:
    first = han_arch.register()
    assert first == han_arch.register()
    assert {"HAN", "LAM", "CSAM"} <= set(first["arch"])
    assert first["model"] == ["HANModel"]
    assert registries.ARCH_REGISTRY.get("HAN") is han_arch.HAN
    assert registries.ARCH_REGISTRY.get("LAM") is han_arch.LAM
    assert registries.MODEL_REGISTRY.get("HANModel").__name__ == "HANModel"
    assert {"RCAN", "EDSR", "SwinIR"} <= set(registries.ARCH_REGISTRY.keys())


def test_a_taken_name_registers_nothing(registries: ModuleType) -> None:
    for name in ("HAN", "LAM", "CSAM"):
        del registries.ARCH_REGISTRY._obj_map[name]
    del registries.MODEL_REGISTRY._obj_map["HANModel"]
    stranger = type("HANModel", (), {})
    registries.MODEL_REGISTRY.register(stranger)
    with pytest.raises(UserError, match=r"model registry .*test_registration\.HANModel"):
        han_arch.register()
    assert not {"HAN", "LAM", "CSAM"} & set(registries.ARCH_REGISTRY.keys())


def test_component_registered_with_basicsr_is_found(registries: ModuleType) -> None:
    class FromBasicSR(nn.Module):
        def forward(self, feat: Tensor) -> Tensor:
            return feat

    registries.ARCH_REGISTRY.register(FromBasicSR)
    net = han_arch.HAN(
        3, 3, num_feat=8, num_group=1, num_block=1, squeeze_factor=4, upscale=2, spatial_attention="FromBasicSR"
    )
    assert isinstance(net.csam, FromBasicSR)


@pytest.mark.usefixtures("basicsr")
def test_a_user_s_own_basicsr_project() -> None:
    """Like the README: call `register`, then BasicSR's build_network."""
    code = (
        "import han_arch\n"
        "han_arch.register()\n"
        "from basicsr.archs import build_network\n"
        "net = build_network(dict(type='HAN', num_in_ch=3, num_out_ch=3, num_feat=8, num_group=2, num_block=1,"
        " squeeze_factor=4, layer_attention=None))\n"
        "print(type(net).__name__, net.lam)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "HAN None", done.stderr
