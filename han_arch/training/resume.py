"""Resume a training run: find its training state, list its changed options, and prepare its folders."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.files import HALF_WRITTEN

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")  # keys of every training state, also of BasicSR's own
# Options that may change when a run resumes, without a line in the log.
IGNORED_DIFFERENCES = ("auto_resume", "path:", "rank", "num_gpu", "world_size", "dist")


@dataclass(frozen=True)
class Resume:
    """The training state from which a run starts; if the run starts at iteration 0, path and state are None."""

    path: Path | None = None
    state: dict[str, Any] | None = None
    notes: Sequence[str] = ()  # lines for the log: skipped training states and changed options

    @property
    def start_iter(self) -> int:
        """Number of iterations that are already done."""
        return 0 if self.state is None else int(self.state["iter"])

    def model_options(self, opt: dict[str, Any]) -> dict[str, Any]:
        """Return a copy of the options. Its section `path` names the network files that match the training state."""
        from basicsr.utils import check_resume

        opt = copy.deepcopy(opt)
        if self.path is not None:
            opt["path"]["resume_state"] = str(self.path)
            check_resume(opt, self.start_iter)  # writes the paths of the networks into opt
        return opt


def find(opt: dict[str, Any]) -> Resume:
    """Find and load the training state to resume from.

    With `auto_resume`, load the newest training state of the experiment. Skip a state if its file or its network file
    cannot be read. Without `auto_resume`, or if the experiment has no states yet, load the file in the option
    `path:resume_state`. If this option is empty, the run starts at iteration 0.

    Raises:
        UserError: `path:resume_state` is not a readable training state, or all states of the experiment are damaged.
    """
    given = opt["path"].get("resume_state")
    folder = Path(opt["path"]["training_states"])
    candidates = [folder / f"{iteration}.state" for iteration in saved_iterations(opt)] if opt["auto_resume"] else []
    is_given = bool(given) and not candidates
    if is_given:
        candidates = [Path(given)]
    notes = []
    for path in candidates:
        try:
            state = _read(path, STATE_KEYS)
            if opt["auto_resume"] or path.parent == folder:
                _read(Path(opt["path"]["models"]) / f"net_g_{state['iter']}.pth")
        except UserError as error:
            if is_given:
                remedy = "set the option to a training state, such as experiments/NAME/training_states/5000.state"
                raise UserError(f"path:resume_state: {error}; {remedy}") from error
            notes.append(f"Skipped {path.name}: {error}")
            continue
        if isinstance(state.get("options"), dict):
            notes += [f"Changed option: {line}" for line in differences(state["options"], opt)]
        return Resume(path, state, notes)
    if candidates:
        advice = "no usable training state; delete these files, or use --fresh instead of --auto_resume to start again:"
        raise UserError("\n  ".join([advice, *notes]))
    return Resume()


def saved_iterations(opt: dict[str, Any]) -> list[int]:
    """Return the iteration numbers of the saved training states, newest first."""
    states = Path(opt["path"]["training_states"]).glob("*.state")
    return sorted((int(path.stem) for path in states if path.stem.isdigit()), reverse=True)


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return one line per difference between two sets of options, such as `train:total_iter: 10 -> 20`."""
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
    """Make the folders of a run. If the run starts at iteration 0, rename an older folder of the same name.

    Raises:
        UserError: the older run is unfinished, and `fresh` is False.
    """
    from basicsr.utils import make_exp_dirs, mkdir_and_rename

    if resume.state is not None:
        for key in ("experiments_root", "models", "training_states", "visualization"):
            folder = Path(opt["path"][key])
            folder.mkdir(parents=True, exist_ok=True)
            # Delete half-written files of a killed process; no other process writes to this folder now.
            for path in folder.glob(HALF_WRITTEN) if opt["rank"] == 0 else ():
                path.unlink(missing_ok=True)
        return
    done = saved_iterations(opt)
    if done and done[0] < int(opt["train"]["total_iter"]) and not fresh:
        raise UserError(
            f"{opt['path']['experiments_root']} contains an unfinished run, saved at iteration {done[0]}; "
            "add --auto_resume to continue it, or --fresh to rename its folder and start from iteration 0"
        )
    if opt["rank"] == 0:
        make_exp_dirs(opt)
        if opt["logger"].get("use_tb_logger") and "debug" not in opt["name"]:
            mkdir_and_rename(str(Path(opt["root_path"]) / "tb_logger" / opt["name"]))


def keep_last(opt: dict[str, Any], count: int) -> None:
    """Keep the newest `count` training states and their networks; delete the older ones."""
    for iteration in saved_iterations(opt)[count:]:
        # Delete the state before its network: a state without a network would be unusable.
        (Path(opt["path"]["training_states"]) / f"{iteration}.state").unlink(missing_ok=True)
        for network in Path(opt["path"]["models"]).glob(f"net_*_{iteration}.pth"):
            network.unlink()


def _read(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"the file {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types of errors, some without a message
        raise UserError(f"{path} is damaged ({type(error).__name__})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a dict; got a {type(content).__name__}")
    if not content.keys() >= set(keys):
        found = ", ".join(map(str, list(content)[:5])) or "none"
        raise UserError(f"{path} is not a training state: it must contain the keys {', '.join(keys)}; found {found}")
    return content
