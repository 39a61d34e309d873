"""scripts/fuzz.py: 500 fixed hostile inputs, and the faults that the script must find."""

import subprocess
import sys
from pathlib import Path

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
