"""HANModel's validation: scores, saved images, and inference variants."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from steps import batch


class Photos(torch.utils.data.Dataset):
    """A data set with three random images, in the format of BasicSR's data sets."""

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


def test_set_without_gt_has_no_metrics_if_an_output_is_not_finite(build) -> None:
    model = build()
    validate(model, Photos("unpaired", with_gt=False, spoiled=True))
    assert not model.metric_results


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
    model.feed_data(
        batch(1, side=40)
    )  # large enough for the variant chop, where each quarter overlaps the others by 10 pixels
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


def test_a_full_disk_is_no_fault_of_the_data_set(build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Photos, index: int) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tb_logger/run")

    monkeypatch.setattr(Photos, "__getitem__", refuse)
    with pytest.raises(OSError, match="No space left") as raised:
        validate(build(), Photos("one"))
    assert "data set" not in str(raised.value)
