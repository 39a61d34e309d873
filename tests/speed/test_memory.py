"""Freed memory stays in the process, unless the user has other settings. Peak memory is measured."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from han_arch.speed import memory

PROGRAM = """
import resource, torch
torch.set_num_threads(1)
{setting}
def temporaries(count):
    for _ in range(count):
        torch.empty(16 * 2**20).fill_(1.0)  # 64 MiB each: glibc returns them by default
temporaries(12)  # glibc before 2.38 reuses aligned blocks only after a few
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
temporaries(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(setting: str = "", **environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(setting=setting)],
        capture_output=True, text=True, check=True, timeout=100, env={"PATH": "/usr/bin", **environment},
    )  # fmt: skip
    return int(done.stdout)


SET = "from han_arch.speed import memory; assert memory.keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_repeated_temporaries_cause_no_page_faults() -> None:
    plain = page_faults()
    kept = page_faults(SET)
    assert plain > 100  # 5 x 64 MiB, in pages of 4 KiB or in fewer, larger pages
    assert kept < plain / 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_kept_memory_can_be_given_back() -> None:
    """Afterwards there are as many page faults as without keeping, and kept memory is not resident."""
    undone = page_faults(f"{SET}; memory.give_back_freed_memory()")
    assert undone > 0.9 * page_faults()
    program = (
        "import torch\nfrom pathlib import Path\nfrom han_arch.speed import memory\n"
        "resident = lambda: int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "memory.keep_freed_memory()\n"
        "torch.empty(64 * 2**20).fill_(1.0)\n"  # 256 MiB
        "kept = resident()\nmemory.give_back_freed_memory()\nprint(kept - resident())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) > 200 * 2**20


@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, {"LD_PRELOAD": "libjemalloc.so"}],
)
def test_the_users_own_settings_stay(environment: dict[str, str]) -> None:
    assert memory.keep_freed_memory(environment) is None


def test_other_systems_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.keep_freed_memory({}) is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_added_at_peak_sees_memory_that_is_freed_again() -> None:
    """The test uses a new process, because its heap has no freed memory to reuse."""
    program = (
        "import torch\nfrom han_arch.speed import memory\n"
        "def run():\n    for _ in range(3):\n        torch.empty(64 * 2**20).fill_(1.0)\n"  # 256 MiB at a time
        "print(memory.added_at_peak(run) / 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert 250 < float(done.stdout) < 300


def test_no_peak_where_the_system_reports_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR_PEAK", tmp_path / "missing" / "clear_refs")
    assert memory.added_at_peak(lambda: pytest.fail("it was called")) is None
