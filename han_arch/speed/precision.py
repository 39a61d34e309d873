"""The table of precisions, with their names in option files, commands and exported files."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A number format.

    Attributes:
        name: its name in option files and commands.
        dtype: its type in torch.
        autocast: training keeps float32 weights and computes under `torch.autocast`.
    """

    name: str
    dtype: torch.dtype
    autocast: bool

    @property
    def long_name(self) -> str:
        """Torch's name, such as "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("fp32", torch.float32, autocast=False),
        Precision("bf16", torch.bfloat16, autocast=True),
        Precision("fp16", torch.float16, autocast=True),
    )
}
