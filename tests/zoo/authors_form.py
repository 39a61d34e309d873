"""Convert HAN's weights to the authors' names, independently of the rules of the converter under test."""

import torch


def to_authors_names(state: dict[str, torch.Tensor], num_group: int, num_block: int) -> dict[str, torch.Tensor]:
    """Return a state dict of our HAN or RCAN with the authors' names, and with the mean-shift convolutions."""
    names = {"conv_first": "head.0", "conv_after_body": f"body.{num_group}", "conv_last": "tail.1"}
    for group in range(num_group):
        names[f"body.{group}.conv"] = f"body.{group}.body.{num_block}"
        for block in range(num_block):
            ours, theirs = f"body.{group}.residual_group.{block}.rcab", f"body.{group}.body.{block}.body"
            names |= {f"{ours}.0": f"{theirs}.0", f"{ours}.2": f"{theirs}.2"}
            names |= {
                f"{ours}.3.attention.1": f"{theirs}.3.conv_du.0",
                f"{ours}.3.attention.3": f"{theirs}.3.conv_du.2",
            }
    names |= {f"upsample.{stage}": f"tail.0.{stage}" for stage in (0, 2, 4)}
    names |= {"conv_lam": "last_conv", "conv_fuse": "last", "csam": "csa.conv"}
    special = {"lam.alpha": "la.gamma", "csam.beta": "csa.gamma"}
    result = {}
    for key, value in state.items():
        module, _, kind = key.rpartition(".")
        result[special.get(key) or f"{names[module]}.{kind}"] = value
    if "csa.conv.weight" in result:
        result["csa.conv.weight"] = result["csa.conv.weight"][None, None]
    mean = 255 * torch.tensor([0.4488, 0.4371, 0.4040])
    eye = torch.eye(3).view(3, 3, 1, 1)
    return result | {
        "sub_mean.weight": eye, "sub_mean.bias": -mean, "add_mean.weight": eye.clone(), "add_mean.bias": mean,
    }  # fmt: skip
