"""After SIGKILL, no unfinished data set looks finished, no worker stays, and the same command finishes the work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pictures import make_picture, write_image

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")]
IMAGES = 24


def command(hr: Path, out: Path) -> list[str]:
    options = ["--scale", "2", "3", "--crop-size", "96", "--step", "48", "--gt-size", "48", "--workers", "2"]
    return [sys.executable, "-m", "han_arch", "data", "prepare", str(hr), "-o", str(out), *options]


def content(folder: Path) -> dict[str, bytes]:
    """All files except those of LMDBs, whose pages depend on the order of writing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".mdb"
    }


def group_members(group: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                members.append(int(entry.name))
    return members


def count_images(folder: Path) -> int:
    """The number of PNG files in a folder and its sub-folders, which another process may rename meanwhile."""
    return sum(name.endswith(".png") for _, _, names in os.walk(folder) for name in names)


def kill_when(arguments: list[str], out: Path, files: int) -> None:
    """Start the command in its own process group; kill only its main process as soon as `files` PNG files exist."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while count_images(out) < files:
            assert process.poll() is None, "finished before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        while Path("/proc").exists() and group_members(process.pid):
            assert time.monotonic() < deadline, "workers stay"
            time.sleep(0.02)
    finally:
        if process.poll() is None:
            process.kill()


def test_killed_three_times_and_resumed(tmp_path):
    hr = tmp_path / "hr"
    hr.mkdir()
    for seed in range(IMAGES):
        write_image(hr / f"{seed:02d}.png", make_picture(160 + seed, 240, seed))
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    subprocess.run(command(hr, undisturbed), check=True, capture_output=True, timeout=120)
    whole = {path.name: content(path) for path in undisturbed.iterdir()}
    total = len(list(undisturbed.rglob("*.png")))
    for share in (0.1, 0.4, 0.8):
        kill_when(command(hr, out), out, int(share * total))
        for path in out.iterdir():
            if not path.name.endswith((".partial", ".lock")):  # the next run uses and removes the lock file
                assert content(path) == whole[path.name]
    assert list(out.glob("*.partial"))
    subprocess.run(command(hr, out), check=True, capture_output=True, timeout=120)
    assert {path.name: content(path) for path in out.iterdir()} == whole
    verify = [sys.executable, "-m", "han_arch", "data", "verify", str(out)]
    assert subprocess.run(verify, capture_output=True, timeout=120).returncode == 0
