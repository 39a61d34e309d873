"""Ending a run between two iterations when the process is asked to stop."""

import signal
from types import FrameType, TracebackType

import torch


class StopRequest:
    """Context in which SIGINT and SIGTERM are noted instead of ending the process; a second one ends it at once.

    Attributes:
        signal_name: name of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def agreed(self, dist: bool) -> bool:
        """Whether a signal came, to this process or to another of the run: all get the same answer.

        A process that left the others alone would leave them waiting for it.

        Args:
            dist: whether there are others; all must ask then.
        """
        if not dist:
            return self.signal_name is not None
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        came = torch.tensor(float(self.signal_name is not None), device=device)
        torch.distributed.all_reduce(came, torch.distributed.ReduceOp.MAX)
        return bool(came)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
