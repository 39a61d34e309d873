"""Distributed training: torchrun or slurm starts the processes; a signal to one process stops all of them."""

import datetime
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.locks import held
from han_arch.opt.normalise import Place

# How long a process may wait for a slower one, such as the one that validates the largest images. Torch's default is 10
# to 30 minutes. If a process dies, the run ends immediately: connections close, or torchrun stops the other processes.
TIMEOUT = datetime.timedelta(hours=6)

DEFAULT_PORT = 29500
TORCHRUN = "pytorch", "torchrun --nproc_per_node N -m han_arch train -opt FILE --launcher pytorch"
SLURM = "slurm", "srun --kill-on-bad-exit=1 basicsr train -opt FILE --launcher slurm"


def find_place(launcher: str) -> Place:
    """Read this process's rank and the number of processes from the environment variables of the launcher.

    The launcher is "none", "pytorch" (torchrun) or "slurm".

    Raises:
        UserError: an environment variable is missing.
    """
    if launcher == "none":
        return Place()
    variables = slurm_as_torchrun(os.environ, DEFAULT_PORT) if launcher == "slurm" else os.environ
    _require(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"), variables, *TORCHRUN)
    return Place(True, int(variables["RANK"]), int(variables["WORLD_SIZE"]))


def join(launcher: str, settings: Mapping[str, Any]) -> None:
    """Initialise torch.distributed from the environment variables that `find_place` reads.

    `settings` is the option section `dist_params`. Processes with a GPU use the option `backend` (default nccl), other
    processes use gloo. With slurm, the option `port` (default 29500) is used if MASTER_PORT is not set.

    BasicSR's own `init_dist` fails without a GPU and passes the environment variable SLURM_NODELIST to a shell.
    """
    if launcher == "none":
        return
    if launcher == "slurm":
        os.environ.update(slurm_as_torchrun(os.environ, settings.get("port") or DEFAULT_PORT))
    backend = "gloo"
    if torch.cuda.is_available():
        # Slurm may let each task see only one GPU, although LOCAL_RANK counts all tasks of the node.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = settings.get("backend") or "nccl"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)


def slurm_as_torchrun(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """Convert the environment variables of a slurm task to the variables that torchrun sets.

    If MASTER_ADDR is not set, it becomes the first host. If MASTER_PORT is not set, it becomes `port`.

    Raises:
        UserError: SLURM_PROCID, SLURM_NTASKS or SLURM_LOCALID is missing; or SLURM_JOB_NODELIST and SLURM_NODELIST are
            both missing.
    """
    nodes = environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST") or ""
    variables = {**environment, "SLURM_JOB_NODELIST": nodes}
    _require(("SLURM_JOB_NODELIST", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"), variables, *SLURM)
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": environment.get("MASTER_ADDR") or first_host(nodes),
        "MASTER_PORT": environment.get("MASTER_PORT") or str(port),
    }


def _require(names: tuple[str, ...], variables: Mapping[str, str], launcher: str, command: str) -> None:
    for name in names:
        if not variables.get(name):
            wanted = f"the environment variable {name}, which is not set"
            raise UserError(f"--launcher {launcher} needs {wanted}; start the run with: {command}")


def first_host(nodes: str) -> str:
    """Return the first host name in slurm's list of nodes, for example gpu03 for `gpu[03-05,9],login`."""
    first = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def leave() -> None:
    """Destroy torch.distributed's process group, if this process has joined one."""
    if _joined():
        torch.distributed.destroy_process_group()


def largest(number: int) -> int:
    """Return the maximum of `number` over all processes. In distributed runs, all processes must call this function."""
    if not _joined():
        return number
    shared = torch.tensor(number, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return int(shared)


@contextmanager
def noticing_lost_processes() -> Iterator[None]:
    """Raise UserError if the connection to another process of the run ends, because that process died or stopped."""
    try:
        yield
    except RuntimeError as error:
        if not _joined() or "connection" not in str(error).lower():
            raise
        raise UserError(
            "the run lost the connection to one of its processes, which died or was stopped; the first error message "
            f"of the run says why ({' '.join(str(error).split())[:200]})"
        ) from error


@contextmanager
def owning(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a run's folder in the process with rank 0. If another run holds it, all processes end.

    Raises:
        UserError: another run holds the lock. `what` is the work for the message, as in `locks.held`.
        OSError: the lock file cannot be opened.
    """
    refusal: Exception | None = None
    with ExitStack() as stack:
        if not _joined() or torch.distributed.get_rank() == 0:
            try:
                stack.enter_context(held(folder, what))
            except (UserError, OSError) as error:
                refusal = error
        if largest(int(refusal is not None)):
            raise refusal or UserError(f"{what} did not start; the message of the process with rank 0 says why")
        yield


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class StopRequest(ExitStack[None]):
    """Context that catches SIGINT and SIGTERM, so that the run can stop between two iterations.

    The first signal only sets `signal_name`. A second signal ends the process immediately.
    """

    signal_name: str | None = None

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def agreed(self) -> bool:
        """Return True if any process received a signal. Every process must call this method after each step."""
        return bool(largest(int(self.signal_name is not None)))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
