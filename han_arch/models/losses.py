"""Loss functions for training, built from the option file."""

from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import LOSS_REGISTRY
from torch import Tensor, nn

from han_arch import errors

# Loss classes of this package; the module `registration` adds them to BasicSR's registry.
OWN: tuple[type[nn.Module], ...] = ()

# Names of the loss terms in the log, keyed by loss option. Any other option NAME_opt has one term: l_NAME.
LOG_NAMES = {"pixel_opt": ("l_pix",), "perceptual_opt": ("l_percep", "l_style")}


def classes() -> dict[str, type[nn.Module]]:
    """Return all loss classes, keyed by name. A BasicSR or plugin class replaces a torch class of the same name."""
    found = {name: cls for name, cls in vars(nn).items() if name.endswith("Loss")}
    for name, cls in LOSS_REGISTRY:
        found |= {name.removesuffix("_basicsr"): cls, name: cls}  # BasicSR accepts a name without the suffix
    return found


class LossTerms(nn.ModuleDict):
    """The losses of a training run, keyed by option name.

    Args:
        train_opt: the option section `train`. Each option NAME_opt, such as `pixel_opt`, contains the `type` and the
            arguments of a loss. An empty option is ignored.

    Raises:
        UserError: there is no loss, or a loss has an unknown type.
    """

    def __init__(self, train_opt: Mapping[str, Any]) -> None:
        super().__init__()
        known = classes()
        for option in dict.fromkeys([*LOG_NAMES, *train_opt]):  # sets the order of the terms in the log
            if option.endswith("_opt") and train_opt.get(option):
                arguments = dict(train_opt[option])
                kind = arguments.pop("type")
                if kind not in known:
                    raise errors.unknown(f"loss in train:{option}", kind, known)
                self[option] = known[kind](**arguments)
        if not self:
            raise errors.UserError("the section train must contain a loss; add pixel_opt or perceptual_opt")

    def forward(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        """Return the loss terms, keyed by their names in the log. `output` and `gt` (ground truth) are (b, c, h, w)."""
        terms: dict[str, Tensor] = {}
        for option, loss in self.items():
            values = loss(output, gt)
            values = values if isinstance(values, tuple) else (values,)
            names = LOG_NAMES.get(option, (f"l_{option.removesuffix('_opt')}",))
            terms |= dict(zip(names[: len(values)], values, strict=True))
        return {name: value for name, value in terms.items() if value is not None}  # a loss of weight 0 returns None
