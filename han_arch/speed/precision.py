"""Table of precisions: fp32, bf16 and fp16, with their dtypes in torch."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A floating-point format for training and inference."""

    name: str  # in option files and commands, such as "bf16"
    dtype: torch.dtype
    autocast: bool  # training keeps float32 weights and computes under `torch.autocast`

    @property
    def long_name(self) -> str:
        """Name of the dtype in torch, such as "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", torch.float32, autocast=False),
        Precision("bf16", torch.bfloat16, autocast=True),
        Precision("fp16", torch.float16, autocast=True),
    )
}
