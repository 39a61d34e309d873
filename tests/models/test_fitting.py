"""A training state fits the run that wrote it, whatever its optimizer keeps for each weight."""

from typing import Any

import pytest
import torch
from torch import nn

from han_arch.models.fitting import find_misfit
from han_arch.models.training_step import OPTIMIZERS


class WithTable(torch.optim.Adam):
    """Optimizer that keeps a table for each weight, as optimizers with 8-bit moments do."""

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        for state in self.state.values():
            state["table"] = torch.zeros(256)


SETTINGS = [
    {"type": "Adafactor"},  # its moments depend on the dimensions of a weight
    {"type": "WithTable"},
    {"type": "NAdam"},
    {"type": "Rprop"},
    {"type": "SGD"},
    {"type": "SGD", "momentum": 0.9},
    {"type": "RMSprop", "centered": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings["type"])
def test_own_state_fits_and_another_shape_does_not(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPTIMIZERS, "WithTable", WithTable)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3))
    net.register_parameter("factor", nn.Parameter(torch.zeros(1)))
    net.register_parameter("number", nn.Parameter(torch.zeros(())))
    options = {key: value for key, value in settings.items() if key != "type"}
    optimizer = OPTIMIZERS[settings["type"]](net.parameters(), lr=1e-3, **options)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    opt = {"train": {"optim_g": {**settings, "lr": 1e-3}, "scheduler": {"type": "StepLR"}}, "path": {}}
    state = {"optimizers": [optimizer.state_dict()], "schedulers": [{}], "options": {}}
    assert find_misfit(opt, state, None, net) is None
    net[0] = nn.Conv2d(3, 9, 3)
    assert (find_misfit(opt, state, None, net) is None) == (settings == {"type": "SGD"})  # it keeps nothing
