"""Finding and reading the training state that a run goes on from."""

from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError


def load_resume_state(opt: dict[str, Any]) -> dict[str, Any] | None:
    """The training state to go on from, or None; in place of BasicSR's function of that name.

    BasicSR's looks for states in the current folder whatever the experiment's is, and loads them onto a GPU.

    Raises:
        UserError: the state file cannot be read.
    """
    from basicsr.utils import check_resume

    path = opt["path"].get("resume_state")
    if opt["auto_resume"]:
        states = Path(opt["path"]["training_states"]).glob("*.state")
        by_iter = {int(state.stem): state for state in states if state.stem.isdigit()}
        if by_iter:
            path = str(by_iter[max(by_iter)])
            opt["path"]["resume_state"] = path
    if path is None:
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, some without a message
        raise UserError(
            f"cannot read the training state {path} ({type(error).__name__}); delete it to go on from the one before"
        ) from error
    check_resume(opt, state["iter"])
    return state
