"""The kinds of hostile inputs. Each is a module with `hostile(rng, folder)` and `check(path, out)`; see trial.py."""

from importlib import import_module
from types import ModuleType

# How many of 100 inputs are of each kind. The program starts processes for LMDBs, so these take seconds.
SHARES = {"images": 44, "options": 25, "checkpoints": 15, "archives": 7, "http": 8, "lmdb": 1}
SELF_TEST = "faults"  # the kind that tests scripts/fuzz.py itself


def module(kind: str) -> ModuleType:
    """Import the module of a kind."""
    return import_module(f"fuzzing.{kind}")
