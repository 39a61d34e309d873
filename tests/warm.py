"""Start `python -m han_arch` and `python -c` without the seconds that PyTorch, TorchVision and SciPy need to import.

A server process imports these packages once for each test process. For each start, the server forks, and the child runs
the command as a process of its own: with its own session, arguments, environment, folder and output. The packages
han_arch and BasicSR are not imported before the fork.

Where forks are not safe (everything but Linux), or if PYTHON variables of the environment differ, real starts are used.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

STATUS = struct.Struct("q")


class Process:
    """A started command, with the part of subprocess.Popen's interface that the tests use."""

    def __init__(self, words: Sequence[str], folder: Path, environment: dict[str, str], out: int, err: int) -> None:
        self.args, self.returncode = list(words), None
        self._status, theirs = os.pipe()
        request = json.dumps([self.args, str(folder), environment]).encode()
        try:
            socket.send_fds(_server(), [request], [out, err, theirs])
        finally:
            os.close(theirs)
        self.pid = self._read()
        self.stdout: Any = None

    def _read(self) -> int:
        data = os.read(self._status, STATUS.size)
        if not data:
            raise RuntimeError("the server of warm processes ended")
        return STATUS.unpack(data)[0]

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; after `timeout` seconds, kill the process and raise TimeoutExpired."""
        if self.returncode is None:
            with self._limited(timeout):
                self.returncode = self._read()
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status, or None if the process is running."""
        import select

        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Return the rest of the output after the end of the process."""
        with self._limited(timeout):
            text = self.stdout.read()
        self.stdout.close()
        self.wait(timeout)
        return text, None

    @contextmanager
    def _limited(self, timeout: float | None) -> Iterator[None]:
        expired = threading.Event()

        def end() -> None:
            expired.set()
            os.killpg(self.pid, signal.SIGKILL)

        timer = threading.Timer(timeout or 1e6, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
        if expired.is_set():
            raise subprocess.TimeoutExpired(self.args, timeout or 0)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def can_fork(environment: dict[str, str]) -> bool:
    """Return whether the server can start a command with this environment."""
    own = {key: value for key, value in os.environ.items() if key.startswith("PYTHON")}
    return sys.platform == "linux" and own == {
        key: value for key, value in environment.items() if key.startswith("PYTHON")
    }


def start(words: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Any:
    """Start `python WORDS` in a session of its own; its stdout and stderr, together, are the text file `stdout`."""
    environment = dict(os.environ) if environment is None else environment
    if not can_fork(environment):
        return subprocess.Popen(
            [sys.executable, *words], cwd=folder, env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    ours, theirs = os.pipe()
    try:
        process = Process(words, folder, environment, theirs, theirs)
    finally:
        os.close(theirs)
    process.stdout = os.fdopen(ours, encoding="utf-8")
    return process


def run(words: Sequence[str], folder: Path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS` in a folder to its end, like subprocess.run with captured output."""
    if not can_fork(dict(os.environ)):
        return subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        status = Process(words, folder, dict(os.environ), out.fileno(), err.fileno()).wait(timeout)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([sys.executable, *words], status, out.read(), err.read())


@cache
def _server() -> socket.socket:
    """Start the server of this test process; it ends when this process ends."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    return ours


def _serve(descriptor: int) -> list[str]:
    """Fork for each request. Return only in the children, with the words of their command."""
    import torchvision.models
    import torchvision.transforms  # noqa: F401

    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system removes ended children
    requests = socket.socket(fileno=descriptor)
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not data:
            os._exit(0)
        if os.fork() == 0:
            break
        for one in descriptors:
            os.close(one)
    requests.close()
    words, folder, environment = json.loads(data)
    out, err, status = descriptors
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:  # wait for the command, and report its exit status
        os.close(out)
        os.close(err)
        os.write(status, STATUS.pack(child))
        os.write(status, STATUS.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        os._exit(0)
    os.setsid()
    os.dup2(out, 1)
    os.dup2(err, 2)
    for one in descriptors:
        os.close(one)
    for name, number in (("stdout", 1), ("stderr", 2)):  # the old objects believe that they write to a file
        old = getattr(sys, name)
        new = open(number, "w", -1 if number == 1 else 1, old.encoding, old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import numpy as np

    np.random.seed()  # otherwise all children draw the same numbers
    return words


def _main() -> int:
    kind, what, *arguments = _serve(int(sys.argv[1]))
    try:
        if kind == "-m":
            sys.path[0] = os.getcwd()
            sys.argv = [what, *arguments]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = ""
            sys.argv = ["-c", *arguments]
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _exit(status: int) -> None:
    """Do what Python does at its end, but do not free the memory of each object: that takes a second."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _exit(_main())
