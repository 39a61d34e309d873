"""`load_network` reads checkpoints of other training code, for HAN and for BasicSR's own networks."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from steps import NETWORK, largest_difference

from han_arch.errors import UserError
from han_arch.models.any_network import load_weights

NETWORKS = [
    {**NETWORK, "squeeze_factor": 4, "upscale": 2},
    {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2},
]


@pytest.fixture(params=NETWORKS, ids=["HAN", "EDSR"])
def model(request: pytest.FixtureRequest, build) -> Any:
    return build(is_train=False, network=request.param)


def test_forms_of_other_code(model: Any, tmp_path: Path) -> None:
    wanted = {key: value + 0.01 for key, value in model.net_g.state_dict().items()}
    lightning = {"loss.vgg.weight": torch.zeros(1)} | {f"model.{key}": value for key, value in wanted.items()}
    contents = (
        {f"_orig_mod.module.{key}": value for key, value in wanted.items()},
        {"state_dict": lightning, "epoch": 3},
        {"model": {"params": wanted}, "optimizer": {}},
    )
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    for number, content in enumerate(contents):
        torch.save(content, tmp_path / f"{number}.pth")
    save_file(wanted, tmp_path / "3.pth")
    for number in range(4):
        model.net_g.load_state_dict(before)
        model.load_network(model.net_g, str(tmp_path / f"{number}.pth"), strict=True)
        assert largest_difference(model.net_g.state_dict(), wanted) == 0


def test_models_of_basicsr_get_the_same_reader(build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`basicsr train` and `test` give `load_weights` to BasicSR's own models."""
    from basicsr.models.base_model import BaseModel

    monkeypatch.setattr(BaseModel, "load_network", load_weights)
    model = build(is_train=False, network=NETWORKS[1], model_type="SRModel")
    wanted = {key: value + 0.01 for key, value in model.net_g.state_dict().items()}
    save_file({f"model.{key}": value for key, value in wanted.items()}, tmp_path / "net.pth")
    model.load_network(model.net_g, str(tmp_path / "net.pth"), True, "params")
    assert largest_difference(model.net_g.state_dict(), wanted) == 0
    torch.save({"params": {**wanted, "conv_last.bias": torch.zeros(9)}}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    for name, part in (("other.pth", "do not fit the network EDSR"), ("text.pth", "damaged")):
        with pytest.raises(UserError) as caught:
            model.load_network(model.net_g, str(tmp_path / name), True, "params")
        assert part in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
def test_nan_is_refused_and_nothing_changes(model: Any, strict: bool, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model.net_g.state_dict().items()}
    name = list(before)[2]
    torch.save({"params": before | {name: before[name] * torch.nan}}, tmp_path / "nan.pth")
    with pytest.raises(UserError, match=rf"nan\.pth.*{re.escape(name)} contains nan"):
        model.load_network(model.net_g, str(tmp_path / "nan.pth"), strict=strict)
    assert largest_difference(model.net_g.state_dict(), before) == 0
