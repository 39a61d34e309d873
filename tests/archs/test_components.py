"""Attention components selected by name: built-in, registered by a user, and found by a lookup."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from han_arch import HAN
from han_arch.archs import components, register_component

SMALL = {"num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4, "upscale": 2}


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the registrations of a test when it ends."""
    monkeypatch.setattr(components, "COMPONENTS", dict(components.COMPONENTS))
    monkeypatch.setattr(components, "LOOKUPS", list(components.LOOKUPS))


@pytest.mark.usefixtures("own_registry")
def test_own_components_get_the_settings_that_they_name() -> None:
    @register_component("layer")
    class NewestOnly(nn.Module):
        def __init__(self, num_feat: int, num_layer: int) -> None:
            super().__init__()
            self.num_feat, self.num_layer = num_feat, num_layer

        def forward(self, feats: list[torch.Tensor]) -> torch.Tensor:
            return feats[0].repeat(1, self.num_layer, 1, 1)

    @register_component("spatial")
    class Halve(nn.Module):
        def forward(self, feat: torch.Tensor) -> torch.Tensor:
            return feat / 2

    net = HAN(3, 3, layer_attention="NewestOnly", spatial_attention="Halve", **SMALL)
    assert (net.lam.num_feat, net.lam.num_layer) == (8, 3)
    assert isinstance(net.csam, Halve)
    assert net(torch.rand(1, 3, 4, 5)).shape == (1, 3, 8, 10)


@pytest.mark.usefixtures("own_registry")
def test_a_name_belongs_to_one_class() -> None:
    class LAM(nn.Module):
        pass

    with pytest.raises(ValueError, match="'LAM' is already used by han_arch"):
        register_component("layer")(LAM)
    with pytest.raises(ValueError, match="layer, spatial; got 'channel'"):
        register_component("channel")


@pytest.mark.usefixtures("own_registry")
def test_lookups_come_last() -> None:
    class FromElsewhere(nn.Module):
        def forward(self, feat: torch.Tensor) -> torch.Tensor:
            return feat

    components.add_lookup({"FromElsewhere": FromElsewhere, "CSAM": FromElsewhere}.get)
    assert isinstance(HAN(3, 3, spatial_attention="FromElsewhere", **SMALL).csam, FromElsewhere)
    assert not isinstance(HAN(3, 3, spatial_attention="CSAM", **SMALL).csam, FromElsewhere)


NEW_COMPONENT = """
from torch import nn
from han_arch.archs.components import register_component

@register_component("spatial")
class Same(nn.Module):
    def forward(self, feat):
        return feat
"""


def test_a_new_module_of_the_folder_is_imported(tmp_path: Path, repository: Path) -> None:
    package = tmp_path / "han_arch"
    shutil.copytree(repository / "han_arch" / "archs", package / "archs")
    for name in ("__init__.py", "compat.py", "errors.py", "version.py"):
        shutil.copy(repository / "han_arch" / name, package / name)
    (package / "archs" / "same.py").write_text(NEW_COMPONENT)
    code = "from han_arch import HAN; print(type(HAN(3, 3, spatial_attention='Same').csam).__name__)"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=100)  # fmt: skip
    assert done.stdout == "Same\n", done.stderr
