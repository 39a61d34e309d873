"""Losses of BasicSR, of PyTorch and of this package, selected by name in the options."""

import pytest
import torch
from steps import batch, run_steps
from torch import nn

import han_arch
from han_arch.errors import UserError
from han_arch.models import losses


def test_loss_terms_come_from_the_option_file(build) -> None:
    """The log shows a loss of BasicSR and a loss of PyTorch, each under its own name."""
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
    with pytest.raises(UserError, match="must contain a loss"):
        build(pixel_opt=None)


class FeatureLoss(nn.Module):
    """A loss with two terms, like BasicSR's PerceptualLoss, but without the VGG network."""

    def forward(self, output: torch.Tensor, gt: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        return None, (output.mean() - gt.mean()).abs()


def test_loss_of_two_terms(build, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log shows the style term of a perceptual loss under its own name, but not a term that is None."""
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
