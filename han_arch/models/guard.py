"""Detection of training steps that would spoil the network: a loss or gradient that is not finite, or explodes."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from han_arch.errors import UserError

WINDOW = 100  # the usual loss is the median of the last so many good ones
WARM_UP = 20  # with fewer losses than these none is unusual


@dataclass
class LossGuard:
    """Judge the losses of each step before the optimizer moves.

    Args:
        max_loss: a total above it is bad, however usual; None: no such bound.
        factor: a total above `factor` times the median of the last 100 good ones is bad.
        give_up_after: so many bad steps in a row end the training.
        action: "skip" skips the step; "rollback" also reloads the networks of the last checkpoint.

    Raises:
        ValueError: an argument out of its range.
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
            got = f"got {self.factor} and {self.give_up_after}"
            raise ValueError(f"guard factor must be above 1 and give_up_after at least 1; {got}")

    def find_problem(self, losses: Mapping[str, float], total: float, grad_norm: float) -> str | None:
        """Return what is wrong with a step, with the name of the loss term; None for a good step."""
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
            return f"the loss is {total:.4g}, {total / usual:.0f} times the usual (largest term: {largest})"
        return None

    def count(self, problem: str | None, total: float, files: list[str]) -> None:
        """Count a step as good or bad, by the result of `find_problem`; `files` of the batch are for the error.

        Raises:
            UserError: the step is the last of `give_up_after` bad steps in a row.
        """
        if problem is None:
            self.recent.append(total)
            self.bad_in_a_row = 0
            return
        self.bad_in_a_row += 1
        if self.bad_in_a_row >= self.give_up_after:
            raise UserError(
                f"training gave up after {self.bad_in_a_row} bad steps in a row; the last: {problem}, in a batch of "
                f"{', '.join(files)}; lower the learning rate, or add grad_clip or warmup_iter; then --auto_resume"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to judge in the same way."""
        return {"recent": list(self.recent), "bad_in_a_row": self.bad_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        self.recent = deque(state["recent"], maxlen=WINDOW)
        self.bad_in_a_row = state["bad_in_a_row"]
