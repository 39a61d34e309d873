"""A run that an error ends is saved first, and a resume from there equals an uninterrupted run."""

import json
from pathlib import Path

import pytest
import warm
from runs import assert_same_run

pytestmark = pytest.mark.usefixtures("basicsr")

# Exit status, newest state, and parts of the message.
WANTED = {
    "validation": (2, 6, ["demo_test", "Image shapes are different"]),
    "killed_in_the_last_validation": (9, 14, []),
    "data": (2, 7, ["iteration 8", "No such file", "gt/3.png", "basicsr data verify"]),
    "memory": (2, 8, ["memory"]),
    "between": (2, 8, ["memory"]),
    "half_step": (2, 5, ["memory"]),
    "guard": (2, 5, ["gave up"]),
    "disk": (2, 5, ["train.csv", "disk is full"]),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list]]:
    """Folder of each run, and its line of output."""
    folder = tmp_path_factory.mktemp("faults")
    script = Path(__file__).resolve().with_name("faults.py")
    search = [str(place) for place in (script.parents[2], script.parents[1], script.parent)]
    start = f"import runpy, sys; sys.path[:0] = {search}; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = warm.run(["-c", start, str(folder)], folder, timeout=300)
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


def test_log_file_has_the_traceback(results: dict[str, tuple[Path, list]]) -> None:
    """The author of a data set, a loss or a metric needs it. All runs of one process write to the first log file."""
    (log,) = (results["reference"][0] / "experiments/run").glob("train_*.log")
    text = log.read_text()
    assert "Traceback" in text
    assert "\nValueError: Image shapes are different" in text
