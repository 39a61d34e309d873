"""The processes of a run: torchrun or slurm starts them, and a signal to one stops all of them."""

import datetime
import os
import re
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.opt.normalise import Place

# Ranks wait for the rank with the largest validation images; torch's default would end the run after 10 to 30 minutes.
# A dead rank ends the run at once, by its closed connections or by torchrun.
TIMEOUT = datetime.timedelta(hours=6)

DEFAULT_PORT = 29500
TORCHRUN = "pytorch", "torchrun --nproc_per_node N -m han_arch train -opt FILE --launcher pytorch"
SLURM = "slurm", "srun --kill-on-bad-exit=1 basicsr train -opt FILE --launcher slurm"


def find_place(launcher: str) -> Place:
    """Find the place of this process in the environment variables of its launcher.

    Args:
        launcher: "none", "pytorch" (torchrun) or "slurm".

    Raises:
        UserError: a variable is missing.
    """
    if launcher == "none":
        return Place()
    variables = slurm_as_torchrun(os.environ, DEFAULT_PORT) if launcher == "slurm" else os.environ
    _require(("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"), variables, *TORCHRUN)
    return Place(True, int(variables["RANK"]), int(variables["WORLD_SIZE"]))


def join(launcher: str, settings: Mapping[str, Any]) -> None:
    """Initialise torch.distributed for a launcher; the variables of `find_place` must be there.

    BasicSR's `init_dist` divides by the number of GPUs, knows only NCCL, and hands SLURM_NODELIST to a shell. Here
    processes without a GPU use gloo.

    Args:
        launcher: as for `find_place`.
        settings: the section `dist_params`: `backend` for machines with GPUs, `port` for slurm without MASTER_PORT.
    """
    if launcher == "none":
        return
    if launcher == "slurm":
        os.environ.update(slurm_as_torchrun(os.environ, settings.get("port") or DEFAULT_PORT))
    backend = "gloo"
    if torch.cuda.is_available():
        # A slurm task may see only one GPU, whatever its number on the node.
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = settings.get("backend") or "nccl"
    torch.distributed.init_process_group(backend, timeout=TIMEOUT)


def slurm_as_torchrun(environment: Mapping[str, str], port: int) -> dict[str, str]:
    """Return torchrun's variables for a slurm task.

    Args:
        environment: SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID and SLURM_JOB_NODELIST (or SLURM_NODELIST).
            MASTER_ADDR and MASTER_PORT win if they are set.
        port: port of the first node for the connections.

    Raises:
        UserError: one of slurm's variables is missing.
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
            why = f"needs the variable {name}, which is not set"
            raise UserError(f"--launcher {launcher} {why}; start it as: {command}")


def first_host(nodes: str) -> str:
    """Return the first of slurm's list of nodes: gpu03 for `gpu[03-05,9],login`."""
    first = re.split(r",(?![^\[]*\])", nodes)[0]
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first)


def leave() -> None:
    """Destroy the process group, if there is one."""
    if _joined():
        torch.distributed.destroy_process_group()


def largest(number: int) -> int:
    """Return the largest of the ranks' numbers; with a process group, all ranks must call this."""
    if not _joined():
        return number
    shared = torch.tensor(number, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
    return int(shared)


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


class StopRequest(ExitStack[None]):
    """Context that notes SIGINT and SIGTERM in `signal_name`, so that the run can stop between two iterations.

    A second signal ends the process at once.
    """

    signal_name: str | None = None

    def __enter__(self) -> "StopRequest":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def agreed(self) -> bool:
        """Return whether a signal came to any process of the run; each must call this at the same iteration."""
        return bool(largest(int(self.signal_name is not None)))

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name is not None:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
