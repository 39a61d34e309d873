"""Joining the other processes of a run that torchrun or slurm started."""

import datetime
import os
from typing import Any

import torch

from han_arch.errors import UserError

# Rank 0 validates alone while the others wait; torch's default would end the run after 10 to 30 minutes.
TIMEOUT = datetime.timedelta(hours=6)


def join(launcher: str, opt: dict[str, Any]) -> None:
    """Initialise torch.distributed for the launcher and note `dist`, `rank` and `world_size` in opt.

    BasicSR's own `init_dist` divides by the number of GPUs and knows NCCL only; here processes without a GPU use gloo.

    Args:
        launcher: "none", "pytorch" (torchrun) or "slurm".
        opt: the options, changed in place.

    Raises:
        UserError: the launcher's environment variables are missing.
    """
    opt["dist"] = launcher != "none"
    opt["rank"], opt["world_size"] = 0, 1
    if launcher == "none":
        return
    variable, hint = {
        "pytorch": ("RANK", "torchrun --nproc_per_node N -m han_arch train -opt FILE --launcher pytorch"),
        "slurm": ("SLURM_PROCID", "srun basicsr train -opt FILE --launcher slurm"),
    }[launcher]
    if variable not in os.environ:
        raise UserError(f"--launcher {launcher} needs the variable {variable}, which is not set; start it as: {hint}")
    if launcher == "slurm":
        from basicsr.utils.dist_util import init_dist

        init_dist(launcher, **(opt.get("dist_params") or {}))
    elif torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl", timeout=TIMEOUT)
    else:
        torch.distributed.init_process_group("gloo", timeout=TIMEOUT)
    opt["rank"] = torch.distributed.get_rank()
    opt["world_size"] = torch.distributed.get_world_size()


def leave() -> None:
    """Destroy the process group, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
