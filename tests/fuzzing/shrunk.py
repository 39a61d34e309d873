"""Draw hostile inputs with hypothesis, and make the first finding as small as possible.

Hypothesis draws each decision of a generator, so that it can take back what the finding does not need. It works in one
process: it cannot make crashes and hangs smaller.
"""

import shutil
from pathlib import Path
from types import ModuleType

import hypothesis
from fuzzing import trial
from hypothesis import strategies


def smallest(kind: ModuleType, count: int, seed: int, place: Path) -> str | None:
    """Try up to `count` inputs of a kind. Return the text of the finding, or None; the input is in place/input."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, database=None, deadline=None, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    )  # fmt: skip
    @hypothesis.given(strategies.randoms(use_true_random=False))
    def one_input(rng: object) -> None:
        shutil.rmtree(place, ignore_errors=True)
        (place / "input").mkdir(parents=True)
        (place / "output").mkdir()
        kind.check(kind.hostile(rng, place / "input"), place / "output")

    try:
        one_input()  # a finding is tried again at the end, in its smallest form
    except trial.Finding as finding:
        return str(finding)
    return None


def shrink(kind: str, module: ModuleType, count: int, seed: int, out: Path) -> int:
    """Show the smallest finding of a kind; return 1 if there is one."""
    text = smallest(module, count, seed, out.resolve() / f"{kind}-smallest")
    print(f"FINDING {kind}: {text}\nThe input is in {out}" if text else f"PASSED: {count} inputs of {kind}")
    return 1 if text else 0
