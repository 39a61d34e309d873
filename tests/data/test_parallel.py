"""A process that reads an LMDB apart never stays behind, and never makes Ctrl-C wait."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

CODE = """
import time
from han_arch.data.parallel import run_apart

def work(seconds):
    print("began", flush=True)
    time.sleep(seconds)

run_apart(work, 60)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_both_processes_end(name: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CODE], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"began\n"
        send = os.killpg if name == "SIGINT" else os.kill  # a terminal sends Ctrl-C to all processes
        send(process.pid, getattr(signal, name))
        process.communicate(timeout=20)  # until the child closes its end of the pipe too
        assert process.returncode < 0 or name == "SIGINT"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
