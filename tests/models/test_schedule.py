"""Optimizers and schedules: by name, during a warm-up, and after a resume with other options."""

from pathlib import Path
from typing import Any

import pytest
import torch
from steps import batch

from han_arch.errors import UserError


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
