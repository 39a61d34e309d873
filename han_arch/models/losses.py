"""The loss terms of a training: a mapping from name to module, built from the option file."""

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from han_arch import errors

# Losses of this package; `registration` adds them to BasicSR's registry.
OWN: tuple[type[nn.Module], ...] = ()

# Option -> names of its terms in the log. Any other NAME_opt has one term, l_NAME.
LOG_NAMES = {"pixel_opt": ("l_pix",), "perceptual_opt": ("l_percep", "l_style")}


def classes() -> dict[str, type[nn.Module]]:
    """Return name -> class of all losses: BasicSR's, those of plugins, and PyTorch's where BasicSR has none."""
    found = {name: cls for name, cls in vars(nn).items() if name.endswith("Loss")}
    for name, cls in LOSS_REGISTRY:
        found |= {name.removesuffix("_basicsr"): cls, name: cls}  # BasicSR looks a name up with this suffix too
    return found


class LossTerms(nn.ModuleDict):
    """The loss modules by option, such as `pixel_opt`.

    Args:
        train_opt: the options `train`. Each NAME_opt holds the `type` of a loss and its arguments, or nothing.

    Raises:
        UserError: no loss, or an unknown one.
    """

    def __init__(self, train_opt: Mapping[str, Any]) -> None:
        super().__init__()
        known = classes()
        for option in dict.fromkeys([*LOG_NAMES, *train_opt]):  # the log has the known terms first
            if option.endswith("_opt") and train_opt.get(option):
                arguments = dict(train_opt[option])
                kind = arguments.pop("type")
                if kind not in known:
                    raise errors.unknown(f"loss in train:{option}", kind, known)
                self[option] = known[kind](**arguments)
        if not self:
            raise errors.UserError("train has no loss; add pixel_opt or perceptual_opt")

    def forward(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """Return the terms for an output and its ground truth, both (b, c, h, w), by their names in the log."""
        terms: dict[str, Tensor] = {}
        for option, loss in self.items():
            values = loss(output, gt)
            values = values if isinstance(values, tuple) else (values,)
            names = LOG_NAMES.get(option, (f"l_{option.removesuffix('_opt')}",))
            terms |= dict(zip(names[: len(values)], values, strict=True))
        return {name: value for name, value in terms.items() if value is not None}  # None: a loss of weight 0
