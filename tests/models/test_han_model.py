"""HANModel's training step and validation, on tiny networks in this process."""

import copy
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import han_arch
from han_arch.errors import UserError
from han_arch.models import losses
from han_arch.opt.paths import check_files
from han_arch.speed.winograd import WinogradConv2d

NETWORK = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 1}


@pytest.fixture
def build(basicsr: ModuleType, tmp_path: Path):
    """Build a model from the defaults below and changes to the train options."""
    han_arch.register()

    def make(
        is_train: bool = True,
        seed: int = 0,
        network: dict[str, Any] | None = None,
        winograd: bool = False,
        model_type: str = "HANModel",
        **train: Any,
    ) -> Any:
        from basicsr.models import build_model

        for name in ("models", "training_states"):
            (tmp_path / name).mkdir(exist_ok=True)
        opt = {
            "name": "step", "model_type": model_type, "scale": 2, "num_gpu": 0, "is_train": is_train, "dist": False,
            "rank": 0, "world_size": 1, "winograd": winograd,
            "network_g": network or {**NETWORK, "squeeze_factor": 4, "upscale": 2},
            "path": {key: str(tmp_path / key) for key in ("models", "training_states", "visualization")},
            "train": {
                "ema_decay": 0.9,
                "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
                "scheduler": {"type": "MultiStepLR", "milestones": [100], "gamma": 0.5},
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
                **train,
            },
            "val": {"metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}}},
        }  # fmt: skip
        torch.manual_seed(seed)
        return build_model(opt)

    return make


def batch(size: int = 4, seed: int = 1, side: int = 8) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    lq = torch.rand(size, 3, side, side, generator=generator)
    gt = torch.rand(size, 3, 2 * side, 2 * side, generator=generator)
    return {"lq": lq, "gt": gt, "gt_path": [f"photo{i}.png" for i in range(size)], "lq_path": ["x"] * size}


def run_steps(model: Any, count: int = 3, side: int = 8) -> dict[str, torch.Tensor]:
    for current_iter in range(1, count + 1):
        model.update_learning_rate(current_iter)
        model.feed_data(batch(seed=current_iter, side=side))
        model.optimize_parameters(current_iter)
    return {key: value.clone() for key, value in model.net_g.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max((one[key] - other[key]).abs().max().item() for key in one)


def test_plain_step_is_basicsrs(build) -> None:
    """The weights equal those of SRModel, from the construction on."""
    ours, theirs = build(), build(model_type="SRModel")
    assert largest_difference(run_steps(ours), run_steps(theirs)) < 1e-6
    assert largest_difference(ours.net_g_ema.state_dict(), theirs.net_g_ema.state_dict()) < 1e-6


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"accumulate": 2}, 1e-5),
        ({"accumulate": 3}, 1e-5),
        ({"channels_last": True}, 1e-5),
        ({"optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99], "fused": True}}, 1e-5),
        ({"precision": "bf16"}, 4e-3),
        ({"precision": "fp16"}, 4e-3),
    ],
)
def test_options_change_the_arithmetic_not_the_result(build, options: dict[str, Any], tolerance: float) -> None:
    plain = run_steps(build())
    moved = largest_difference(plain, build().net_g.state_dict())
    difference = largest_difference(plain, run_steps(build(**options)))
    assert difference <= tolerance
    assert moved > 2e-3


def test_winograd_in_training_and_test(build, winograd_compiler: None) -> None:
    network = {**NETWORK, "num_feat": 16, "squeeze_factor": 4, "upscale": 2}
    plain, fast = build(network=network), build(network=network, winograd=True)
    for net in (fast.net_g, fast.net_g_ema, build(is_train=False, network=network, winograd=True).net_g):
        assert isinstance(net.body[0].conv, WinogradConv2d)
    weights = [run_steps(model, side=24) for model in (plain, fast)]
    assert 0 < largest_difference(*weights) < 1e-4
    assert list(weights[0]) == list(weights[1])


@pytest.mark.slow
def test_compiled_step(build) -> None:
    model = build(compile=True)
    assert largest_difference(run_steps(build()), run_steps(model)) < 1e-4
    assert not any("_orig_mod" in key for key in model.net_g.state_dict())


def test_channels_last_reaches_the_weights(build) -> None:
    weight = build(channels_last=True).net_g.conv_first.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_gradients_are_clipped(build) -> None:
    model = build(grad_clip=1e-3)
    model.feed_data(batch())
    model.optimize_parameters(1)
    norm = torch.stack([p.grad.norm() for p in model.net_g.parameters()]).norm()
    assert norm <= 1.001e-3
    assert model.get_current_log()["grad_norm"] > 1e-2


def test_adamw_and_unknown_optimizers(build) -> None:
    model = build(optim_g={"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1})
    assert isinstance(model.optimizer_g, torch.optim.AdamW)
    assert isinstance(build(optim_g={"type": "SGD", "lr": 1e-3, "momentum": 0.9}).optimizer_g, torch.optim.SGD)
    with pytest.raises(UserError, match=r"train:optim_g:type 'SDG'; .*SGD"):
        build(optim_g={"type": "SDG", "lr": 1e-3})
    with pytest.raises(UserError, match=r"train:optim_g.* Adam: .*momentum"):
        build(optim_g={"type": "Adam", "lr": 1e-3, "momentum": 0.9})


def test_loss_terms_come_from_the_option_file(build) -> None:
    """BasicSR's and PyTorch's losses, each under its own name in the log."""
    pixel = {"type": "CharbonnierLoss", "loss_weight": 0.5}
    model = build(pixel_opt=pixel, edge_opt={"type": "HuberLoss", "delta": 0.1}, perceptual_opt=None)
    model.feed_data(batch())
    model.optimize_parameters(1)
    output, gt = model.output, model.gt
    assert model.get_current_log() == {
        "l_pix": pytest.approx(0.5 * float((output - gt).pow(2).add(1e-12).sqrt().mean())),
        "l_edge": pytest.approx(float(nn.functional.huber_loss(output, gt, delta=0.1))),
        "grad_norm": model.get_current_log()["grad_norm"],
    }
    with pytest.raises(UserError, match=r"train:pixel_opt 'L1Los'; .*L1Loss"):
        build(pixel_opt={"type": "L1Los"})
    with pytest.raises(UserError, match="no loss"):
        build(pixel_opt=None)


class FeatureLoss(nn.Module):
    """A loss with two terms, like BasicSR's PerceptualLoss, but without VGG."""

    def forward(self, output: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        return None, (output.mean() - gt.mean()).abs()


def test_loss_of_two_terms(build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The style term of a perceptual loss has its own name; a term of weight 0 is None and not in the log."""
    monkeypatch.setattr(losses, "classes", lambda: {"FeatureLoss": FeatureLoss, "L1Loss": nn.L1Loss})
    model = build(perceptual_opt={"type": "FeatureLoss"}, pixel_opt={"type": "L1Loss"})
    run_steps(model, 1)
    assert list(model.get_current_log()) == ["l_pix", "l_style", "grad_norm"]


def test_own_loss_needs_one_class_and_one_row(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "OWN", (FeatureLoss,))
    assert han_arch.register()["loss"] == ["FeatureLoss"]
    model = build(pixel_opt=None, perceptual_opt={"type": "FeatureLoss"})
    run_steps(model, 1)
    assert list(model.get_current_log()) == ["l_style", "grad_norm"]


def test_options_stay_as_they_were(build, tmp_path: Path) -> None:
    """Training, saving and a resume with another schedule change no option, unlike BasicSR's models."""
    model = build()
    before = copy.deepcopy(model.opt)
    run_steps(model)
    model.save(0, 3)
    other = build(scheduler=STEPS)
    options = copy.deepcopy(other.opt)
    other.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    run_steps(other)
    assert model.opt == before
    assert other.opt == options
    assert torch.load(tmp_path / "training_states" / "3.state", weights_only=True)["options"] == before


@pytest.mark.parametrize(
    "options", [{"precision": "half"}, {"accumulate": 0}, {"grad_clip": 0}, {"guard": {"action": "pray"}}]
)
def test_values_out_of_range(build, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"half|got"):
        build(**options)


def test_warm_up_reaches_the_schedule(build) -> None:
    model = build(scheduler={"type": "MultiStepLR", "milestones": [3, 8], "gamma": 0.5})
    rates = []
    for current_iter in range(1, 11):
        model.update_learning_rate(current_iter, warmup_iter=5)
        rates.append(model.get_current_learning_rate()[0])
        model.optimizer_g.step()
    scheduled = [1e-3] * 3 + [0.5e-3] * 5 + [0.25e-3] * 2
    warm = [min(1, i / 5) for i in range(1, 11)]
    assert rates == pytest.approx([rate * factor for rate, factor in zip(scheduled, warm, strict=True)])


STEPS = {"type": "MultiStepLR", "milestones": [3, 8], "gamma": 0.5}
CHANGES: list[dict[str, Any]] = [
    {},
    {"scheduler": {**STEPS, "milestones": [2, 7]}},
    {"scheduler": {"type": "CosineAnnealingRestartLR", "periods": [20], "eta_min": 1e-6}},
    {"optim_g": {"type": "Adam", "lr": 4e-3, "betas": [0.8, 0.95]}},
]


@pytest.mark.parametrize("warmup", [-1, 7])
@pytest.mark.parametrize("change", CHANGES, ids=["nothing", "milestones", "cosine", "rate"])
def test_changed_schedule_holds_after_a_resume(build, change: dict[str, Any], warmup: int, tmp_path: Path) -> None:
    """The rates from there on are those of a run that had the new options from the start."""

    def rates(model: Any, first: int, last: int) -> list[float]:
        found = []
        for current_iter in range(first, last + 1):
            model.update_learning_rate(current_iter, warmup_iter=warmup)
            model.feed_data(batch())
            model.optimize_parameters(current_iter)
            found.append(model.get_current_learning_rate()[0])
        return found

    before, after = build(scheduler=STEPS), build(**{"scheduler": STEPS, **change})
    rates(before, 1, 5)
    before.save(0, 5)
    after.resume_training(torch.load(tmp_path / "training_states" / "5.state", weights_only=True))
    whole = rates(build(**{"scheduler": STEPS, **change}), 1, 12)
    assert rates(after, 6, 12) == (whole[5:] if not change else pytest.approx(whole[5:]))
    assert list(after.optimizer_g.param_groups[0]["betas"]) == list(change.get("optim_g", {}).get("betas", [0.9, 0.99]))


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
    """Another seed builds the second model, so that what is equal in the end comes from the files."""

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


def test_ema_has_parameters_and_buffers(build) -> None:
    model = build()
    with_norm = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.net_g, model.net_g_ema = with_norm, copy.deepcopy(with_norm)
    before = copy.deepcopy(with_norm)
    with torch.no_grad():
        for parameter in with_norm.parameters():
            parameter.add_(1.0)
    with_norm(torch.rand(2, 3, 4, 4))
    model.model_ema(decay=0.9)
    torch.testing.assert_close(model.net_g_ema[0].weight, before[0].weight + 0.1)
    assert torch.equal(model.net_g_ema[1].running_mean, with_norm[1].running_mean)
    assert model.net_g_ema[1].num_batches_tracked == 1


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """BasicSR's log; its logger does not pass messages on."""
    monkeypatch.setattr(logging.getLogger("basicsr"), "propagate", True)
    caplog.set_level(logging.INFO, "basicsr")
    return caplog


def test_bad_batch_is_skipped_and_named(build, messages: pytest.LogCaptureFixture) -> None:
    model = build()
    run_steps(model)
    before = copy.deepcopy(model.net_g.state_dict())
    bad = batch()
    bad["gt"][2, 0, 0, 0] = float("nan")
    model.feed_data(bad)
    model.optimize_parameters(4)
    assert largest_difference(before, model.net_g.state_dict()) == 0
    assert "iteration 4: l_pix is nan, in a batch of photo0.png, photo1.png" in messages.text
    model.feed_data(batch())
    model.optimize_parameters(5)
    assert largest_difference(before, model.net_g.state_dict()) > 0


def test_exploding_loss_rolls_back_to_the_checkpoint(build, messages: pytest.LogCaptureFixture) -> None:
    model = build(guard={"action": "rollback", "factor": 5})
    run_steps(model, 25)
    model.save(0, 25)
    saved = copy.deepcopy(model.net_g.state_dict())
    model.feed_data(batch(seed=99))
    model.optimize_parameters(26)
    assert largest_difference(saved, model.net_g.state_dict()) > 0
    loud = batch()
    loud["gt"] += 50
    model.feed_data(loud)
    model.optimize_parameters(27)
    assert largest_difference(saved, model.net_g.state_dict()) == 0
    assert "times the usual (largest term: l_pix)" in messages.text
    assert "Rolled back to the checkpoint of iteration 25." in messages.text


def test_gives_up_after_bad_steps_in_a_row(build) -> None:
    model = build(guard={"give_up_after": 3, "max_loss": 1e-9})
    for current_iter in (1, 2):
        model.feed_data(batch())
        model.optimize_parameters(current_iter)
    model.feed_data(batch())
    with pytest.raises(UserError, match=r"gave up after 3 bad steps in a row.*above max_loss.*photo0.png"):
        model.optimize_parameters(3)


class Photos(torch.utils.data.Dataset):
    """Validation samples as BasicSR's data sets give them."""

    def __init__(self, name: str, with_gt: bool = True, spoiled: bool = False) -> None:
        self.opt = {"name": name}
        self.with_gt, self.spoiled = with_gt, spoiled

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = batch(1, seed=index)
        sample = {"lq": one["lq"][0], "lq_path": f"lq/{index}.png"}
        if self.spoiled and index == 1:
            sample["lq"] = sample["lq"] * float("inf")
        return {**sample, "gt": one["gt"][0]} if self.with_gt else sample


def validate(model: Any, dataset: Photos, **settings: Any) -> None:
    model.validation(torch.utils.data.DataLoader(dataset), 7, None, **settings)


def test_sets_keep_their_own_results_and_images(build, tmp_path: Path) -> None:
    model = build()
    validate(model, Photos("one"), save_img=True)
    validate(model, Photos("two"), save_img=True)
    assert set(model.best_metric_results) == {"one", "two"}
    images = {str(path.relative_to(tmp_path / "visualization")) for path in tmp_path.rglob("*.png")}
    assert images == {f"{name}/{i}/{i}_7.png" for name in ("one", "two") for i in range(3)}


def test_set_without_gt_is_not_compared_with_the_last_batch(build, messages: pytest.LogCaptureFixture) -> None:
    model = build()
    model.feed_data(batch())
    validate(model, Photos("unpaired", with_gt=False))
    assert not model.metric_results
    assert "Validation unpaired: no metrics" in messages.text


def test_output_that_is_not_finite_is_nan_and_named(build, messages: pytest.LogCaptureFixture) -> None:
    model = build()
    validate(model, Photos("spoiled", spoiled=True))
    assert model.metric_results["psnr"] != model.metric_results["psnr"]
    assert "lq/1.png: the output is not finite" in messages.text


def test_training_mode_survives_validation(build) -> None:
    model = build(ema_decay=0)
    validate(model, Photos("one"))
    assert model.net_g.training


@pytest.mark.parametrize("variant", ["chop", "self_ensemble", "chop+self_ensemble", "tiles-16-4"])
def test_validation_runs_the_variant(build, variant: str) -> None:
    from han_arch.inference.tiles import Tiling, in_tiles
    from han_arch.inference.variants import chop, self_ensemble

    model = build(ema_decay=0)
    model.opt["val"]["inference"] = variant
    model.feed_data(batch(1, side=40))  # a quadrant of chop reaches 10 pixels beyond its half
    model.test()
    net = model.net_g.eval()
    with torch.no_grad():
        expected = {
            "chop": lambda: chop(net, model.lq, 2),
            "self_ensemble": lambda: self_ensemble(net, model.lq),
            "tiles-16-4": lambda: in_tiles(net, model.lq, Tiling(40, 40, 2, 16, 4)),
            "chop+self_ensemble": lambda: self_ensemble(lambda lq: chop(net, lq, 2), model.lq),
        }[variant]()
        assert torch.equal(model.output, expected)
        assert not torch.equal(model.output, net(model.lq))


def test_names_of_the_zoo_are_checkpoints_to_start_from(build) -> None:
    """han-s-x4 into a network for x2: the backbone is the zoo's, the upsampling is new."""
    small = {"num_feat": 32, "num_group": 4, "num_block": 4, "squeeze_factor": 8}
    model = build(network={**NETWORK, **small, "upscale": 2})
    model.load_network(model.net_g, "han-s-x4", strict=False)
    wanted, got = han_arch.load_model("han-s-x4").state_dict(), model.net_g.state_dict()
    assert torch.equal(got["body.0.conv.weight"], wanted["body.0.conv.weight"])
    assert check_files({"path": {"pretrain_network_g": "han-s-x4"}}) == []
    (problem,) = check_files({"path": {"pretrain_network_g": "han-s-x5"}})
    assert "path:pretrain_network_g: 'han-s-x5' does not exist" in str(problem)
