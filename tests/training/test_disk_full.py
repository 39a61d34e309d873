"""On a full disk a run ends with a one-line error, keeps its earlier files complete, and can resume later."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import TOTAL, assert_same_run, finish_after, run, start

pytestmark = pytest.mark.usefixtures("basicsr")


def assert_one_line_and_complete_files(code: int, text: str, folder: Path, why: str) -> None:
    assert code == 2, text
    assert "Traceback" not in text
    assert "Logging error" not in text
    lines = [line for line in text.splitlines() if line.startswith("basicsr train: error:")]
    assert len(lines) == 1, text
    assert why in lines[0]
    assert "--auto_resume" in lines[0]
    experiment = folder / "experiments/run"
    assert (experiment / "training_states/5.state").is_file()
    assert not list(experiment.rglob("*.part"))
    for path in [*experiment.glob("models/*.pth"), *experiment.glob("training_states/*.state")]:
        torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="the test needs Linux's prlimit to limit the file size of a process"
)
def test_refused_writes_stop_the_run_and_it_resumes(make_run) -> None:
    """From iteration 7 on, files may have at most 20 kB, which is less than a training state."""
    import resource

    reference, limited = make_run("reference"), make_run("limited")
    assert run(reference)[0] == 0
    process = start(limited)
    limit = (20_000, 20_000)
    code, text = finish_after(process, 7, lambda: resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit))
    assert_one_line_and_complete_files(code, text, limited, "File too large")
    assert run(limited, "--auto_resume")[0] == 0
    assert_same_run(limited, reference)


def can_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    test = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    return subprocess.run(test, capture_output=True).returncode == 0


FILL = """
set -e
mount -t tmpfs -o size=6m tmpfs "$1/experiments"
cp -r "$1/saved/." "$1/experiments"
head -c 100m /dev/zero > "$1/experiments/filler" 2>/dev/null || true
rm "$1/experiments/filler"
free=$(df --output=avail -B1 "$1/experiments" | tail -1)
head -c $((free - 150000)) /dev/zero > "$1/experiments/filler"  # leaves space for the logs but not for a checkpoint
set +e
"$2" -m han_arch train -opt run.yml --auto_resume
echo "first start: $?"
rm -rf "$1/after"; cp -r "$1/experiments" "$1/after"
rm "$1/experiments/filler"
"$2" -m han_arch train -opt run.yml --auto_resume
echo "second start: $?"
rm -rf "$1/saved"; cp -r "$1/experiments" "$1/saved"
"""


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="this user cannot mount a small file system in its own namespace")
def test_full_file_system(make_run) -> None:
    """Train on a small file system that is really full, and that also contains TensorBoard's files."""
    folder, reference = make_run("full"), make_run("reference")
    for one in (folder, reference):
        text = (one / "run.yml").read_text()
        (one / "run.yml").write_text(text.replace("use_tb_logger: false", "use_tb_logger: true"))
    assert run(reference)[0] == 0
    assert run(folder, "--force_yml", "train:total_iter=7")[0] == 0  # saves training states 5 and 7
    (folder / "experiments/run/training_states/7.state").unlink()
    (folder / "experiments").rename(folder / "saved")
    (folder / "experiments").mkdir()
    (folder / "tb_logger").rename(folder / "saved/tb_logger")
    (folder / "tb_logger").symlink_to(folder / "experiments/tb_logger")
    command = ["unshare", "-rm", "bash", "-c", FILL, "bash", str(folder), sys.executable]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=200, env=os.environ
    )
    first, _, second = done.stdout.partition("first start: ")
    after = folder / "after/run"
    assert second.startswith("2"), done.stdout
    assert "No space left on device" in first
    assert "Traceback" not in first
    assert "Logging error" not in first
    assert len([line for line in first.splitlines() if line.startswith("basicsr train: error:")]) == 1
    assert not list(after.rglob("*.part"))
    for path in [*after.glob("models/*.pth"), *after.glob("training_states/*.state")]:
        torch.load(path, weights_only=True)
    assert "second start: 0" in done.stdout, done.stdout
    (folder / "experiments").rmdir()
    (folder / "saved").rename(folder / "experiments")
    assert (folder / f"experiments/run/training_states/{TOTAL}.state").is_file()
    assert_same_run(folder, reference)
