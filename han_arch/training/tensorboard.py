"""TensorBoard's writer for a run."""

from pathlib import Path
from typing import Any


def open_writer(opt: dict[str, Any], start_iter: int) -> Any:
    """A SummaryWriter on tb_logger/NAME, as BasicSR's, where `use_tb_logger` asks for one; wandb before it.

    Args:
        opt: the run's options.
        start_iter: iterations that are done; what an earlier start wrote after them is hidden, since a resumed run
            makes it again.

    Returns:
        The writer; None on other processes than the first, in debug runs, and where none is asked for.
    """
    settings = opt["logger"]
    if opt["rank"] != 0 or "debug" in opt["name"] or not settings.get("use_tb_logger"):
        return None
    if (settings.get("wandb") or {}).get("project"):
        from basicsr.utils import init_wandb_logger

        init_wandb_logger(opt)
    from torch.utils.tensorboard import SummaryWriter

    folder = Path(opt["root_path"]) / "tb_logger" / opt["name"]
    return SummaryWriter(str(folder), purge_step=start_iter + 1 if start_iter else None)
