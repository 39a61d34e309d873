"""HANModel's training step: options, gradients, optimizers, schedules, and the averaged network."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import NETWORK, batch, largest_difference, run_steps
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from han_arch.errors import UserError
from han_arch.models.training_step import TrainingStep
from han_arch.speed.winograd import WinogradConv2d


def test_plain_step_is_basicsrs(build) -> None:
    """HANModel and SRModel start with equal weights, and still have equal weights after some steps."""
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


@pytest.mark.parametrize(
    "options", [{"precision": "half"}, {"accumulate": 0}, {"grad_clip": 0}, {"guard": {"action": "pray"}}]
)
def test_values_out_of_range(build, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"half|got"):
        build(**options)


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


def test_last_part_of_a_batch_exchanges_gradients(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A batch of 4 becomes 2 parts of 2 images; the processes exchange gradients only after the last part."""
    waiting = []
    no_sync = DistributedDataParallel.no_sync
    monkeypatch.setattr(DistributedDataParallel, "no_sync", lambda self: waiting.append(1) or no_sync(self))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = DistributedDataParallel(nn.Conv2d(3, 3, 1))
        step = TrainingStep(torch.device("cpu"), accumulate=3)
        images = torch.rand(4, 3, 5, 5)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        step.backward(net, optimizer, images, images, lambda output, gt: {"l_pix": (output - gt).abs().mean()})
        assert len(waiting) == 1
    finally:
        torch.distributed.destroy_process_group()


def test_adamw_and_unknown_optimizers(build) -> None:
    model = build(optim_g={"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1})
    assert isinstance(model.optimizer_g, torch.optim.AdamW)
    assert isinstance(build(optim_g={"type": "SGD", "lr": 1e-3, "momentum": 0.9}).optimizer_g, torch.optim.SGD)
    with pytest.raises(UserError, match=r"train:optim_g:type 'SDG'; .*SGD"):
        build(optim_g={"type": "SDG", "lr": 1e-3})
    with pytest.raises(UserError, match=r"train:optim_g.* Adam: .*momentum"):
        build(optim_g={"type": "Adam", "lr": 1e-3, "momentum": 0.9})


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
    """After the resume, the learning rates equal those of a run that used the new options from the start."""

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
