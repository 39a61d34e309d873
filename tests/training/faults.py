"""Run training in one process with faults, one after the other: `python faults.py FOLDER`. Each line of its output is a
JSON list: the name of the fault, the exit status with the fault, the saved states then, the errors, and the exit status
of the resumed run. Every run has a folder FOLDER/NAME; FOLDER/reference has no fault."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from runs import make_folder

from han_arch import compat
from han_arch.cli import main
from han_arch.errors import UserError
from han_arch.training import records

RESUMED = ("validation", "killed_in_the_last_validation", "data", "memory")
Patch = tuple[Any, str, int, BaseException]


def make_cases() -> dict[str, list[Patch]]:
    """Return the faults of each run: a function, the number of the call in which it fails, and the error."""
    compat.require_basicsr()
    from basicsr.data.paired_image_dataset import PairedImageDataset

    from han_arch.models import han_model
    from han_arch.models.guard import GaveUp, LossGuard
    from han_arch.models.training_step import TrainingStep

    no_memory = RuntimeError("DefaultCPUAllocator: can't allocate memory")
    full = UserError("could not write train.csv: disk is full")
    return {
        "reference": [],
        "validation": [(han_model, "validate", 2, ValueError("Image shapes are different"))],  # of iteration 6
        "killed_in_the_last_validation": [(han_model, "validate", 5, SystemExit(9))],  # of iteration 14, after its save
        "data": [(PairedImageDataset, "__getitem__", 26, OSError(2, "No such file", "gt/3.png"))],  # of iteration 8
        "memory": [(TrainingStep, "backward", 9, no_memory)],
        "between": [(han_model.HANModel, "update_learning_rate", 9, no_memory)],  # before the weights change
        "half_step": [(TrainingStep, "step", 9, RuntimeError("out of memory"))],
        "guard": [(LossGuard, "count", 9, GaveUp("training gave up"))],
        "disk": [(records.CsvLog, "add", 8, full), (torch, "save", 1, OSError(28, "No space left on device"))],
    }


@contextlib.contextmanager
def failing(patches: list[Patch]) -> Iterator[None]:
    """Raise an error in the call of each function with the given number, and in all later calls.

    The count of the second function starts at the first error.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, *_ in patches]
    failed: list[str] = []

    def failing_at(index: int, count: int, error: BaseException, original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def replaced(*arguments: Any, **settings: Any) -> Any:
            nonlocal calls
            calls += len(failed) >= index
            if calls >= count:
                failed.append("")
                torch.rand(3)  # a half-done iteration may have drawn random numbers
                raise error
            return original(*arguments, **settings)

        return replaced

    for index, (owner, name, count, error) in enumerate(patches):
        setattr(owner, name, failing_at(index, count, error, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, original in before:
            setattr(owner, name, original)


def train(*flags: str) -> tuple[int, list[str]]:
    """Train in the current folder. Return the exit status and the lines with an error or a traceback."""
    text = io.StringIO()
    with contextlib.redirect_stderr(text):
        try:
            status = main(["train", "-opt", "run.yml", *flags])
        except SystemExit as error:
            status = int(error.code or 0)
    return status, [line for line in text.getvalue().splitlines() if "error:" in line or "Traceback" in line]


if __name__ == "__main__":
    records.draw_curves = lambda folder: folder  # type: ignore[assignment]  # a figure takes longer than the training
    for case, patches in make_cases().items():
        os.chdir(make_folder(Path(sys.argv[1]) / case))
        with failing(patches):
            status, errors = train()
        states = sorted(int(path.stem) for path in Path("experiments/run/training_states").iterdir())
        again = train("--auto_resume")[0] if case in RESUMED else None
        sys.stdout.write(json.dumps([case, status, states, errors, again]) + "\n")
