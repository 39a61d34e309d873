"""Detect bad training steps: a loss or gradient is not finite, or a loss is much larger than usual."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from han_arch.errors import UserError

WINDOW = 100  # the usual loss is the median over this number of recent good steps
WARM_UP = 20  # a loss can be unusual only after this number of good steps


class GaveUp(UserError):
    """Too many training steps in a row were bad."""


@dataclass
class LossGuard:
    """A check of the loss and gradient of each training step, before the optimizer changes the weights.

    Args:
        max_loss: a step with a larger loss is bad. None: no limit.
        factor: a step is bad if its loss is more than `factor` times the median loss of the last 100 good steps.
        give_up_after: number of bad steps in a row after which training ends.
        action: "skip" = skip a bad step; "rollback" = also reload networks and optimizers from the newest checkpoint.

    Raises:
        ValueError: an argument is out of range.
    """

    max_loss: float | None = None
    factor: float = 10.0
    give_up_after: int = 10
    action: str = "skip"
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW), init=False)
    bad_in_a_row: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.action not in ("skip", "rollback"):
            raise ValueError(f"guard action must be skip or rollback; got {self.action!r}")
        if self.factor <= 1 or self.give_up_after < 1:
            raise ValueError(
                "guard factor must be above 1 and give_up_after at least 1; "
                f"got factor {self.factor} and give_up_after {self.give_up_after}"
            )

    def find_problem(self, losses: Mapping[str, float], total: float, grad_norm: float) -> str | None:
        """Return the reason why a step is bad, as text for the log; None if the step is good.

        `losses` contains the loss terms, keyed by their names in the log; `total` is their sum. `grad_norm` is the norm
        of all gradients.
        """
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        if not math.isfinite(grad_norm):
            return f"the gradient's norm is {grad_norm}"
        largest = max(losses, key=lambda name: losses[name])
        if self.max_loss is not None and total > self.max_loss:
            return f"the loss is {total:.4g}, above max_loss {self.max_loss:.4g} (largest term: {largest})"
        usual = statistics.median(self.recent) if len(self.recent) >= WARM_UP else math.inf
        if total > self.factor * usual:
            return f"the loss is {total:.4g}, {total / usual:.0f} times the usual loss (largest term: {largest})"
        return None

    def count(self, problem: str | None, total: float, files: list[str]) -> None:
        """Count a step as good if `problem` is None, and as bad otherwise. `problem` is the result of `find_problem`.

        `total` is the sum of all loss terms. `files` are the paths of the batch's images, for the error message.

        Raises:
            GaveUp: `give_up_after` steps in a row were bad.
        """
        if problem is None:
            self.recent.append(total)
            self.bad_in_a_row = 0
            return
        self.bad_in_a_row += 1
        if self.bad_in_a_row >= self.give_up_after:
            raise GaveUp(
                f"training gave up after {self.bad_in_a_row} bad steps in a row. In the last step, {problem}; "
                f"images of the batch: {', '.join(files)}. Lower the learning rate, or set grad_clip or warmup_iter; "
                "then run the same command with --auto_resume"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the recent losses and the number of bad steps, for an exact resume."""
        return {"recent": list(self.recent), "bad_in_a_row": self.bad_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.recent = deque(state["recent"], maxlen=WINDOW)
        self.bad_in_a_row = state["bad_in_a_row"]
