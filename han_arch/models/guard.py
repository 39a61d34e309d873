"""Noticing a training step that would spoil the network: a loss or gradient that is not finite, or that explodes."""

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

from han_arch.errors import UserError

WINDOW = 100  # iterations whose losses tell what is usual
WARM_UP = 20  # fewer than these tell nothing yet


class LossGuard:
    """Judges each step's losses before the optimizer moves.

    Args:
        max_loss: a total above it is bad, however usual; None: no such bound.
        factor: a total above `factor` times the median of the last 100 good ones is bad.
        give_up_after: that many bad steps in a row end the training.
        action: "skip" leaves the step out; "rollback" also goes back to the networks of the last checkpoint.

    Raises:
        ValueError: an argument out of its range.
    """

    def __init__(
        self, max_loss: float | None = None, factor: float = 10.0, give_up_after: int = 10, action: str = "skip"
    ) -> None:
        if action not in ("skip", "rollback"):
            raise ValueError(f"guard action must be skip or rollback; got {action!r}")
        if factor <= 1 or give_up_after < 1:
            raise ValueError(
                f"guard factor must be above 1 and give_up_after at least 1; got {factor} and {give_up_after}"
            )
        self.max_loss, self.factor, self.give_up_after, self.action = max_loss, factor, give_up_after, action
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.bad_in_a_row = 0

    def problem(self, losses: Mapping[str, float], total: float, grad_norm: float) -> str | None:
        """What is wrong with a step, naming the term; None when nothing is.

        Args:
            losses: each term of the loss.
            total: their sum.
            grad_norm: norm of all gradients.
        """
        for name, value in losses.items():
            if not math.isfinite(value):
                return f"{name} is {value}"
        if not math.isfinite(grad_norm):
            return f"the gradient's norm is {grad_norm}"
        largest = max(losses, key=lambda name: losses[name])
        if self.max_loss is not None and total > self.max_loss:
            return f"the loss is {total:.4g}, above max_loss {self.max_loss:.4g} (largest term: {largest})"
        if len(self.recent) >= WARM_UP:
            usual = statistics.median(self.recent)
            if total > self.factor * usual:
                return f"the loss is {total:.4g}, {total / usual:.0f} times the usual (largest term: {largest})"
        return None

    def note(self, problem: str | None, total: float, files: list[str]) -> None:
        """Count a step as good or bad.

        Raises:
            UserError: `give_up_after` bad steps in a row.
        """
        if problem is None:
            self.recent.append(total)
            self.bad_in_a_row = 0
            return
        self.bad_in_a_row += 1
        if self.bad_in_a_row >= self.give_up_after:
            raise UserError(
                f"training gave up after {self.bad_in_a_row} bad steps in a row; the last: {problem}, in a batch of "
                f"{', '.join(files)}; lower the learning rate, add grad_clip or warmup_iter, then --auto_resume"
            )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to judge alike."""
        return {"recent": list(self.recent), "bad_in_a_row": self.bad_in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        self.recent = deque(state["recent"], maxlen=WINDOW)
        self.bad_in_a_row = state["bad_in_a_row"]
