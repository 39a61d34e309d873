"""A run that an error ends is saved first, and a resume from there equals an uninterrupted run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import assert_same_run

REPOSITORY = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("basicsr")

# Exit status, newest state, and parts of the message.
WANTED = {
    "validation": (2, 6, ["demo_test", "Image shapes are different"]),
    "killed_in_the_last_validation": (9, 14, []),
    "data": (2, 7, ["iteration 8", "No such file", "gt/3.png", "basicsr data verify"]),
    "memory": (2, 8, ["memory"]),
    "half_step": (2, 5, ["memory"]),
    "guard": (2, 5, ["gave up"]),
    "disk": (2, 5, ["train.csv", "disk is full"]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list]]:
    """Folder of each run, and its line of output."""
    folder = tmp_path_factory.mktemp("faults")
    script = Path(__file__).with_name("faults.py")
    search = {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, script.parents[1], script.parent)))}
    command = [sys.executable, str(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **search})
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    assert len(lines) == len(WANTED) + 1, done.stdout + done.stderr
    return {line[0]: (folder / line[0], line[1:]) for line in lines}


@pytest.mark.parametrize("case", WANTED)
def test_error_ends_a_run_after_a_save(results: dict[str, tuple[Path, list]], case: str) -> None:
    folder, (status, states, errors, again) = results[case]
    wanted_status, newest, parts = WANTED[case]
    assert (status, states[-1]) == (wanted_status, newest)
    assert len(errors) == bool(parts)
    for part in parts:
        assert part in errors[0]
    if again is not None:  # the run was resumed
        assert again == 0
        assert_same_run(folder, results["reference"][0])
