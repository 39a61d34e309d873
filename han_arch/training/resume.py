"""The experiment of a run that may have started before: its folders, training states and changed options."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.files import HALF_WRITTEN

# Options that may differ between a run and its continuation without a note.
IGNORED_DIFFERENCES = ("auto_resume", "path:", "rank", "num_gpu", "world_size", "dist")


@dataclass(frozen=True)
class Resume:
    """Where a run starts: a training state and its file, None for a fresh start; and warnings for the log."""

    path: Path | None = None
    state: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def start_iter(self) -> int:
        """Iterations that are done."""
        return 0 if self.state is None else int(self.state["iter"])

    def model_options(self, opt: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the options in which `path` names the networks of the training state, for `build_model`."""
        from basicsr.utils import check_resume

        opt = copy.deepcopy(opt)
        if self.path is not None:
            opt["path"]["resume_state"] = str(self.path)
            check_resume(opt, self.start_iter)  # writes into the options
        return opt


def find(opt: dict[str, Any]) -> Resume:
    """Find the training state to resume from.

    With `auto_resume` it is the newest one that is complete together with its networks; else `path:resume_state`.

    Raises:
        UserError: the given state cannot be read, or all states of the experiment are damaged.
    """
    given = opt["path"].get("resume_state")
    folder = Path(opt["path"]["training_states"])
    candidates = [folder / f"{iteration}.state" for iteration in saved_iterations(opt)] if opt["auto_resume"] else []
    if not candidates and given:
        candidates = [Path(given)]
    notes = []
    for path in candidates:
        try:
            state = _read(path)
            if opt["auto_resume"] or path.parent == folder:
                _read(Path(opt["path"]["models"]) / f"net_g_{state['iter']}.pth")
        except UserError as error:
            notes.append(f"Skipped {path.name}: {error}")
            continue
        if isinstance(state.get("options"), dict):
            notes += [f"Changed option: {line}" for line in differences(state["options"], opt)]
        return Resume(path, state, notes)
    if candidates:
        advice = "no usable training state; delete these files, or replace --auto_resume by --fresh:"
        raise UserError("\n  ".join([advice, *notes]))
    return Resume()


def saved_iterations(opt: dict[str, Any]) -> list[int]:
    """Return the iterations that have a training state, newest first."""
    states = Path(opt["path"]["training_states"]).glob("*.state")
    return sorted((int(path.stem) for path in states if path.stem.isdigit()), reverse=True)


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the options that differ, one line each: `train:total_iter: 10 -> 20`."""
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


def prepare_folders(opt: dict[str, Any], resume: Resume, *, fresh: bool) -> None:
    """Make the folders of a run. A fresh start renames an older run of that name, as BasicSR does.

    With `fresh` it renames an unfinished run too.

    Raises:
        UserError: an unfinished run exists, and neither `--auto_resume` nor `--fresh` is given.
    """
    from basicsr.utils import make_exp_dirs, mkdir_and_rename

    if resume.state is not None:
        for key in ("experiments_root", "models", "training_states", "visualization"):
            folder = Path(opt["path"][key])
            folder.mkdir(parents=True, exist_ok=True)
            # Left by a killed process; no other process writes here now.
            for path in folder.glob(HALF_WRITTEN) if opt["rank"] == 0 else ():
                path.unlink(missing_ok=True)
        return
    done = saved_iterations(opt)
    if done and done[0] < int(opt["train"]["total_iter"]) and not fresh:
        raise UserError(
            f"{opt['path']['experiments_root']} holds a run that was stopped at iteration {done[0]}; "
            "add --auto_resume to continue it, or --fresh to rename its folder and start from iteration 0"
        )
    if opt["rank"] == 0:
        make_exp_dirs(opt)
        if opt["logger"].get("use_tb_logger") and "debug" not in opt["name"]:
            mkdir_and_rename(str(Path(opt["root_path"]) / "tb_logger" / opt["name"]))


def keep_last(opt: dict[str, Any], count: int) -> None:
    """Remove all but the newest `count` training states and their networks."""
    for iteration in saved_iterations(opt)[count:]:
        # The state first: a network without a state is never looked for.
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
