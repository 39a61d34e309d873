"""The training states of an experiment: finding the one to go on from, showing what changed since, keeping a few."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError

# Differ between a run and its continuation without meaning anything.
IGNORED_DIFFERENCES = ("auto_resume", "path:", "rank", "num_gpu", "world_size", "dist")


@dataclass
class Resume:
    """What to go on from.

    Attributes:
        state: the training state; None for a fresh start.
        notes: what the log should say about how it was found.
    """

    state: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def start_iter(self) -> int:
        """Iterations that are done."""
        return 0 if self.state is None else int(self.state["iter"])


def saved_iterations(opt: dict[str, Any]) -> list[int]:
    """Iterations that have a training state, newest first."""
    states = Path(opt["path"]["training_states"]).glob("*.state")
    return sorted((int(path.stem) for path in states if path.stem.isdigit()), reverse=True)


def find(opt: dict[str, Any]) -> Resume:
    """The newest training state that is whole, with its networks; or `path:resume_state` as given.

    Changes `path` in opt, as BasicSR does, so that the model loads the networks of that iteration.

    Raises:
        UserError: the given state cannot be read, or states are there and none is whole.
    """
    from basicsr.utils import check_resume

    resume = Resume()
    given = opt["path"].get("resume_state")
    folder = Path(opt["path"]["training_states"])
    candidates = [folder / f"{iteration}.state" for iteration in saved_iterations(opt)] if opt["auto_resume"] else []
    if not candidates and given:
        candidates = [Path(given)]
    for path in candidates:
        try:
            state = _read(path)
            if opt["auto_resume"] or path.parent == folder:
                _read(Path(opt["path"]["models"]) / f"net_g_{state['iter']}.pth")
        except UserError as error:
            resume.notes.append(f"Skipped {path.name}: {error}")
            continue
        resume.state = state
        opt["path"]["resume_state"] = str(path)
        check_resume(opt, state["iter"])
        if isinstance(state.get("options"), dict):
            resume.notes += [f"Changed since then: {line}" for line in differences(state["options"], opt)]
        return resume
    if candidates:
        listed = "\n  ".join(resume.notes)
        raise UserError(f"no training state can be gone on from; remove or mend them, or start anew:\n  {listed}")
    return resume


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Options that differ, one line each: `train:total_iter: 10 -> 20`."""
    lines = []
    for key in sorted(before.keys() | now.keys()):
        where = f"{prefix}{key}"
        if where.startswith(IGNORED_DIFFERENCES):
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{where}:")
        elif old != new:
            lines.append(f"{where}: {old} -> {new}")
    return lines


def keep_last(opt: dict[str, Any], count: int) -> None:
    """Remove all but the newest `count` training states and their networks."""
    for iteration in saved_iterations(opt)[count:]:
        # The state first: without it nobody looks for the networks.
        (Path(opt["path"]["training_states"]) / f"{iteration}.state").unlink(missing_ok=True)
        for network in Path(opt["path"]["models"]).glob(f"net_*_{iteration}.pth"):
            network.unlink()


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds, some without a message
        raise UserError(f"{path} is damaged ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}; wanted a dict")
    return content
