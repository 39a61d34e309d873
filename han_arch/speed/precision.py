"""The table of precisions: what option files, commands and exported files call the formats of numbers."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Precision:
    """A format of numbers.

    Attributes:
        name: what option files and commands call it.
        dtype: torch's type.
        autocast: whether training in it keeps float32 weights and computes under `torch.autocast`.
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
