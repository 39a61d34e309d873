"""scripts/fuzz.py: 500 fixed hostile inputs, and the faults that the script must find."""

import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from fuzzing import shrunk, trial
from fuzzing.faults import FAULTS


def _fuzz(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "scripts" / "fuzz.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def test_500_inputs(repository: Path, tmp_path: Path) -> None:
    done = _fuzz(repository, "--inputs", 500, "--seed", 16, "--processes", 1, "--out", tmp_path / "findings")
    assert done.returncode == 0, done.stdout
    assert "500 of 500 inputs" in done.stdout
    assert not (tmp_path / "findings").exists()


def test_each_fault_is_found_and_kept(repository: Path, tmp_path: Path) -> None:
    arguments = ("--kind", "faults", "--seed", 5, "--processes", 1, "--longest", 1.5, "--out", tmp_path)
    done = _fuzz(repository, *arguments, "--inputs", len(FAULTS))
    assert done.returncode == 1, done.stderr
    for index, name in enumerate(FAULTS):
        kept = tmp_path / f"faults-{index}"
        assert kept.exists() == (name != "none")
        if name != "none":
            text = (kept / "finding.txt").read_text("utf-8")
            assert name in text
            assert f"--kind faults --seed 5 --only {index}" in text
            assert name == "lost" or (kept / "input" / "input.txt").exists()
    assert f"{len(FAULTS)} of {len(FAULTS)} inputs" in done.stdout


def test_an_input_can_be_repeated(repository: Path, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        _fuzz(repository, "--kind", "faults", "--only", 1, "--processes", 1, "--out", tmp_path / name)
        contents.append((tmp_path / name / "faults-1" / "input" / "input.txt").read_text())
    assert contents[0] == contents[1]


def test_a_finding_is_made_small(tmp_path: Path) -> None:
    def hostile(rng: random.Random, folder: Path) -> Path:
        (folder / "numbers.txt").write_text(" ".join(str(rng.randrange(10**6)) for _ in range(rng.randrange(50))))
        return folder / "numbers.txt"

    def check(path: Path, out: Path) -> str:
        if any(int(number) >= 1000 for number in path.read_text().split()):
            raise trial.Finding("large")
        return "small"

    kind = ModuleType("numbers")
    kind.hostile, kind.check = hostile, check
    assert shrunk.smallest(kind, 100, 0, tmp_path / "place") == "large"
    assert (tmp_path / "place" / "input" / "numbers.txt").read_text() == "1000"
    kind.check = lambda path, out: "fine"
    assert shrunk.smallest(kind, 10, 0, tmp_path / "place") is None


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_mutation_runs(repository: Path, tmp_path: Path) -> None:
    done = _fuzz(repository, "--guided", "zip", "png", "--minutes", 0.1, "--out", tmp_path)
    assert done.returncode == 0, done.stdout
    assert "PASSED" in done.stdout
    assert done.stdout.count("Done") == 2


def test_a_format_without_a_guide_is_named(repository: Path, tmp_path: Path) -> None:
    done = _fuzz(repository, "--guided", "gif", "--out", tmp_path)
    assert done.returncode == 2
    assert "no such format: gif; choose from options" in done.stderr
