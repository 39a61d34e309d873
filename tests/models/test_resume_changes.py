"""What may change between a stopped run and its resume, and which weights a test measures."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import batch, run_steps

from han_arch.errors import UserError

PSNR = {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}
SSIM = {**PSNR, "type": "calculate_ssim"}


class Photos(torch.utils.data.Dataset):
    """A validation set with one image; loading it raises an error if there is one."""

    def __init__(self, name: str = "demo", error: Exception | None = None) -> None:
        self.opt, self.error = {"name": name}, error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.error:
            raise self.error
        one = batch(1)
        return {"lq": one["lq"][0], "gt": one["gt"][0], "lq_path": "a.png"}


def validate(model: Any, current_iter: int, photos: Photos) -> None:
    model.validation(torch.utils.data.DataLoader(photos), current_iter, None)


def stopped(build: Any, tmp_path: Path, **train: Any) -> tuple[Any, dict[str, Any]]:
    """Return a model after some steps and a validation, and its training state."""
    model = build(**train)
    run_steps(model)
    validate(model, 2, Photos())
    model.save(0, 2)
    return model, torch.load(tmp_path / "training_states" / "2.state", weights_only=True)


@pytest.mark.parametrize("precisions", [("fp32", "fp16"), ("bf16", "fp16"), ("fp16", "fp32"), ("fp16", "bf16")])
def test_resume_with_another_precision(build, tmp_path: Path, precisions: tuple[str, str]) -> None:
    _, state = stopped(build, tmp_path, precision=precisions[0])
    resumed = build(precision=precisions[1])
    resumed.resume_training(state)
    resumed.feed_data(batch())
    resumed.optimize_parameters(3)
    resumed.save(0, 3)
    assert resumed.step.scaler.is_enabled() == (precisions[1] == "fp16")


def test_metrics_and_sets_that_a_resume_adds(build, tmp_path: Path) -> None:
    _, state = stopped(build, tmp_path)
    state["best_metric_results"]["demo"]["psnr"]["val"] = 99.0
    resumed = build()
    resumed.opt["val"]["metrics"] = {"psnr": PSNR, "ssim": {**SSIM, "better": "lower"}}
    resumed.resume_training(state)
    for name, best_psnr in (("demo", 2), ("new", 3)):
        validate(resumed, 3, Photos(name))
        best = resumed.best_metric_results[name]
        assert best["psnr"]["iter"] == best_psnr
        assert (best["ssim"]["iter"], best["ssim"]["better"]) == (3, "lower")


def test_best_score_of_the_other_direction_is_forgotten(build, tmp_path: Path) -> None:
    _, state = stopped(build, tmp_path)
    state["best_metric_results"]["demo"]["psnr"]["val"] = 0.0
    resumed = build()
    resumed.opt["val"]["metrics"]["psnr"] = {**PSNR, "better": "lower"}
    resumed.resume_training(state)
    validate(resumed, 3, Photos())
    assert resumed.best_metric_results["demo"]["psnr"]["iter"] == 3


@pytest.mark.parametrize("chosen", [None, "params", "params_ema"])
def test_test_names_the_weights_that_it_measures(
    build, tmp_path: Path, messages: pytest.LogCaptureFixture, chosen: str | None
) -> None:
    stopped(build, tmp_path)
    messages.clear()
    tested = build(is_train=False)
    if chosen:
        tested.opt["path"]["param_key_g"] = chosen
    tested.load_network(tested.net_g, str(tmp_path / "models/net_g_2.pth"), True, chosen or "params")
    lines = [record for record in messages.records if "params_ema" in record.getMessage()]
    if chosen == "params_ema":
        assert not lines
        return
    (line,) = lines
    assert line.levelno == (logging.INFO if chosen else logging.WARNING)
    for part in ("net_g_2.pth", "measures params.", "path:param_key_g: params_ema"):
        assert part in line.getMessage()


@pytest.mark.parametrize("key", ["params", "params_ema"])
def test_weights_that_are_not_finite_are_refused(build, tmp_path: Path, key: str) -> None:
    model, _ = stopped(build, tmp_path)
    path = tmp_path / "models" / "net_g_2.pth"
    content = torch.load(path, weights_only=True)
    content[key]["conv_last.bias"][0] = float("nan")
    torch.save(content, path)
    with pytest.raises(UserError, match=r"net_g_2\.pth.*conv_last\.bias.*nan"):
        model.load_network(model.net_g, str(path), True, key)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file", "a.png"), ValueError("sizes\ndiffer"), KeyError("gt")]
)
def test_fault_in_a_validation_set_is_one_line(build, error: Exception) -> None:
    model = build()
    with pytest.raises(UserError) as refused:
        validate(model, 3, Photos(error=error))
    assert "demo" in str(refused.value)
    assert str(error.args[-1]).replace("\n", " ") in str(refused.value)
    assert "\n" not in str(refused.value)
