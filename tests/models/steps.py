"""Helpers for the tests of this folder: a batch, training steps, and the comparison of weights."""

from typing import Any

import torch

NETWORK = {"type": "HAN", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_group": 2, "num_block": 1}


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
