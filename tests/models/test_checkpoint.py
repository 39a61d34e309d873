"""Checkpoints and training states: exact resume, complete files, unchanged options, and names from the zoo."""

import copy
import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import NETWORK, batch, largest_difference, run_steps

import han_arch
from han_arch.errors import UserError
from han_arch.opt.check import check_files

RECIPES = [
    {"accumulate": 2},
    {"accumulate": 3, "grad_clip": 0.01},
    {"precision": "bf16", "channels_last": True},
    {"precision": "fp16", "optim_g": {"type": "AdamW", "lr": 1e-3, "fused": True}},
    {"optim_g": {"type": "NAdam", "lr": 1e-3}, "scheduler": {"type": "StepLR", "step_size": 2}},
    {"scheduler": {"type": "OneCycleLR", "max_lr": 1e-3, "total_steps": 20}},
    pytest.param({"compile": True, "accumulate": 2}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("options", RECIPES, ids=str)
def test_resume_of_every_recipe_is_exact(build, options: dict[str, Any], tmp_path: Path) -> None:
    """The second model is built with another seed, so equal results can only come from the saved files."""

    def steps(model: Any, first: int, last: int) -> list[float]:
        losses = []
        for current_iter in range(first, last + 1):
            model.update_learning_rate(current_iter, warmup_iter=4)
            model.feed_data(batch(seed=current_iter))
            model.optimize_parameters(current_iter)
            losses.append(model.get_current_log()["l_pix"])
        return losses

    uninterrupted = build(**options)
    losses = steps(uninterrupted, 1, 3)
    uninterrupted.save(0, 3)
    losses += steps(uninterrupted, 4, 6)

    resumed = build(**options, seed=5)
    network = str(tmp_path / "models" / "net_g_3.pth")
    resumed.load_network(resumed.net_g, network, True, "params")
    resumed.load_network(resumed.net_g_ema, network, True, "params_ema")
    resumed.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    assert steps(resumed, 4, 6) == losses[3:]
    assert largest_difference(resumed.net_g.state_dict(), uninterrupted.net_g.state_dict()) == 0
    assert largest_difference(resumed.net_g_ema.state_dict(), uninterrupted.net_g_ema.state_dict()) == 0
    moments = [model.optimizer_g.state_dict()["state"] for model in (resumed, uninterrupted)]
    assert all(torch.equal(moments[0][i]["exp_avg_sq"], moments[1][i]["exp_avg_sq"]) for i in moments[0])
    assert resumed.step.scaler.state_dict() == uninterrupted.step.scaler.state_dict()


def test_options_stay_as_they_were(build, tmp_path: Path) -> None:
    """Unlike in BasicSR, the options do not change in training, saving, or a resume with another schedule."""
    model = build()
    before = copy.deepcopy(model.opt)
    run_steps(model)
    model.save(0, 3)
    other = build(scheduler={"type": "MultiStepLR", "milestones": [2], "gamma": 0.5})
    options = copy.deepcopy(other.opt)
    other.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    run_steps(other)
    assert model.opt == before
    assert other.opt == options
    assert torch.load(tmp_path / "training_states" / "3.state", weights_only=True)["options"] == before


def test_models_that_save_like_basicsrs_own_write_complete_files(build, tmp_path: Path, monkeypatch) -> None:
    """A subclass may call `save_network` and `save_training_state` itself, also with iteration -1 at the end."""
    model = build()

    def save(current_iter: int, **networks: Any) -> None:
        for label, net in networks.items():
            model.save_network(net, label, current_iter, "params")
        model.save_network([model.net_g, model.net_g_ema], "net_g", current_iter, param_key=["params", "params_ema"])
        model.save_training_state(0, current_iter)

    discriminator = torch.nn.Conv2d(3, 3, 1)
    for current_iter in (3, -1):
        save(current_iter, net_d=discriminator)
    files = {path.name: path for path in tmp_path.rglob("*.*") if path.is_file()}
    assert set(files) == {"net_g_3.pth", "net_d_3.pth", "net_g_latest.pth", "net_d_latest.pth", "3.state"}
    generator = torch.load(files["net_g_latest.pth"], weights_only=True)
    assert generator["network_g"] == model.opt["network_g"]
    assert largest_difference(generator["params_ema"], model.net_g_ema.state_dict()) == 0
    other = torch.load(files["net_d_latest.pth"], weights_only=True)
    assert list(other) == ["params"]
    assert largest_difference(other["params"], discriminator.state_dict()) == 0

    def write_half(content: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {name: path.read_bytes() for name, path in files.items()}
    monkeypatch.setattr(torch, "save", write_half)
    for save_again in (
        lambda: save(3),
        lambda: save(-1),
        lambda: model.save(0, 3),
        lambda: model.save_networks("best"),
    ):
        with pytest.raises(UserError, match=r"net_g_.*pth: No space left on device"):
            save_again()
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


def test_names_of_the_zoo_are_checkpoints_to_start_from(build) -> None:
    """A network for x2 takes the backbone of han-s-x4; its upsampling keeps new weights."""
    small = {"num_feat": 32, "num_group": 4, "num_block": 4, "squeeze_factor": 8}
    model = build(network={**NETWORK, **small, "upscale": 2})
    model.load_network(model.net_g, "han-s-x4", strict=False)
    wanted, got = han_arch.load_model("han-s-x4").state_dict(), model.net_g.state_dict()
    assert torch.equal(got["body.0.conv.weight"], wanted["body.0.conv.weight"])
    assert check_files({"path": {"pretrain_network_g": "han-s-x4"}}) == []
    (problem,) = check_files({"path": {"pretrain_network_g": "han-s-x5"}})
    assert "path:pretrain_network_g: 'han-s-x5' does not exist" in str(problem)
