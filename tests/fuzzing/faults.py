"""Faults of a program, one of each kind, for the test of scripts/fuzz.py itself."""

import os
import random
import time
from pathlib import Path

from fuzzing import trial

FAULTS = ("none", "traceback", "crash", "hang", "lost", "half-written")


def hostile(rng: random.Random, folder: Path) -> Path:
    """Write a file that only its index determines."""
    path = folder / "input.txt"
    path.write_text(f"{rng.random()}")
    return path


def check(path: Path, out: Path) -> str:
    """Show the next fault."""
    name = FAULTS[int(path.parent.parent.name.split("-")[1])]
    with trial.nothing_lost(path.parent, out):
        if name == "traceback":
            trial.called(int, "no number", refusals=(OSError,))
        elif name == "crash":
            os.abort()
        elif name == "hang":
            time.sleep(1000)
        elif name == "lost":
            path.unlink()
        elif name == "half-written":
            (out / ".result.0123abcd.part").write_text("half")
    return name
