"""Resume a training run: find its training state, list its changed options, and prepare its folders."""

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError
from han_arch.files import HALF_WRITTEN
from han_arch.models.fitting import find_misfit
from han_arch.opt import check
from han_arch.zoo.load import find_file
from han_arch.zoo.read import read_raw, read_torch

STATE_KEYS = ("epoch", "iter", "optimizers", "schedulers")  # keys of every training state, also of BasicSR's own
OWN_STATE_KEYS = ("options", "random", "guard", "scheduled_lrs", "best_metric_results")  # added by CheckpointModel
# Options that may change when a run resumes, without a line in the log.
IGNORED_DIFFERENCES = ("auto_resume", "path:", "rank", "num_gpu", "world_size", "dist")


class _OfAnotherRun(UserError):
    """The training state is good, but another run wrote it."""


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

    def load_into(self, model: Any) -> None:
        """Load the training state into a model.

        Raises:
            UserError: the state does not fit the model.
        """
        try:
            model.resume_training(self.state)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError, RuntimeError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"the training state {self.path} does not fit this run ({reason}); use the options of the interrupted "
                "run, or start a new run from its weights with path:pretrain_network_g"
            ) from error


def find(opt: dict[str, Any]) -> Resume:
    """Find and load the training state to resume from, and check that it fits the options.

    With `auto_resume`, load the newest training state of the experiment. Skip a state if its file or its network file
    cannot be read, or if a weight is not finite. Without `auto_resume`, or if the experiment has no states yet, load
    the file in the option `path:resume_state`. If this option is empty, the run starts at iteration 0.

    Raises:
        UserError: `path:resume_state` is not a readable training state; all states of the experiment are damaged; or
            the state does not fit the options.
    """
    given = opt["path"].get("resume_state")
    folder = Path(opt["path"]["training_states"])
    candidates = [folder / f"{iteration}.state" for iteration in saved_iterations(folder)] if opt["auto_resume"] else []
    is_given = bool(given) and not candidates
    if is_given:
        candidates = [Path(given)]
    notes: list[str] = []
    for path in candidates:
        try:
            state, networks = _read_all(path, opt)
        except _OfAnotherRun:
            raise
        except UserError as error:
            if is_given:
                raise UserError(f"path:resume_state: {error}; {_remedy(path, opt)}") from error
            notes.append(f"Skipped {path.name}: {error}")
            continue
        _check_fit(opt, path, state, networks)
        if notes:
            notes.append(f"The newest usable training state is {path.name}")
        if isinstance(state.get("options"), dict):
            notes += [f"Changed option: {line}" for line in differences(state["options"], opt)]
        return Resume(path, state, notes)
    if candidates:
        advice = "no usable training state; delete these files, or use --fresh instead of --auto_resume to start again:"
        raise UserError("\n  ".join([advice, *notes]))
    return Resume()


def check_pretrained(opt: dict[str, Any]) -> None:
    """Read the weights in `path:pretrain_network_g`, before the run renames or writes anything.

    Raises:
        UserError: the file is not a checkpoint, or a weight is nan or inf.
    """
    if opt["path"].get("pretrain_network_g"):
        file, sha256 = find_file(opt["path"]["pretrain_network_g"])
        read_raw(file, opt["path"].get("param_key_g", "params"), required=False, sha256=sha256)


def saved_iterations(folder: Path) -> list[int]:
    """Return the iteration numbers of the training states in a folder, newest first."""
    return sorted((int(path.stem) for path in folder.glob("*.state") if path.stem.isdecimal()), reverse=True)


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
    done = saved_iterations(Path(opt["path"]["training_states"]))
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
    folder = Path(opt["path"]["training_states"])
    for iteration in saved_iterations(folder)[count:]:
        # Delete the state last. After a kill, the next call still finds it and deletes the rest.
        for network in Path(opt["path"]["models"]).glob(f"net_*_{iteration}.pth"):
            network.unlink(missing_ok=True)
        (folder / f"{iteration}.state").unlink(missing_ok=True)


def _read_all(path: Path, opt: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a training state, and the contents of its network files keyed by option section, such as network_g."""
    state = _read(path, STATE_KEYS)
    if "scaler" in state:  # a CheckpointModel wrote it
        _require(path, state, OWN_STATE_KEYS)
    kinds = {"epoch": int, "iter": int, "optimizers": list, "schedulers": list, "options": dict}
    for key, kind in kinds.items():
        if key in state and not isinstance(state[key], kind):
            raise UserError(f"{path} is damaged: {key} must be of type {kind.__name__}; got {state[key]!r:.40}")
    before = state.get("options", {}).get("name", opt["name"])
    elsewhere = path.resolve().parent != Path(opt["path"]["training_states"]).resolve()
    if elsewhere and before != opt["name"]:
        raise _OfAnotherRun(
            f"the training state {path} belongs to the run {before}, and the name of this run is {opt['name']}; set "
            f"name: {before} to resume that run, or start a new run from its weights with path:pretrain_network_g"
        )
    networks = {}
    for section in opt:
        if section.startswith("network_") and section not in (opt["path"].get("ignore_resume_networks") or ()):
            name = f"net_{section.removeprefix('network_')}_{state['iter']}.pth"
            networks[section] = content = _read(Path(opt["path"]["models"]) / name)
            for key, weights in content.items():
                for weight, value in weights.items() if isinstance(weights, dict) else ():
                    if isinstance(value, torch.Tensor) and not value.isfinite().all():
                        raise UserError(f"{name} contains nan or inf in {key}: {weight}")
    return state, networks


def _remedy(path: Path, opt: dict[str, Any]) -> str:
    """Return what to do about an unusable file in path:resume_state; name the newest usable state beside it."""
    for iteration in saved_iterations(path.parent):
        other = path.with_name(f"{iteration}.state")
        if other != path:
            with suppress(UserError):
                _read_all(other, opt)
                return f"the newest usable training state of this folder is {other}"
    return "set the option to a training state, such as experiments/NAME/training_states/5000.state"


def _check_fit(opt: dict[str, Any], path: Path, state: dict[str, Any], networks: dict[str, Any]) -> None:
    done, total = state["iter"], int(opt["train"]["total_iter"])
    if done > total:
        raise UserError(
            f"the training state {path} is of iteration {done}, after train:total_iter ({total}); set train:total_iter "
            "to at least this iteration, or path:resume_state to an older training state"
        )
    if opt["model_type"] != "HANModel":
        return
    net = check.build_empty_network(opt["network_g"])
    weights = networks["network_g"].get("params") if "network_g" in networks else None
    try:
        misfit = find_misfit(opt, state, weights, net)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        misfit = f"it is damaged ({type(error).__name__}: {error})"
    if misfit:
        raise UserError(f"the training state {path} does not fit this run: {misfit}")


def _read(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"the file {path} does not exist")
    try:
        content = read_torch(path)
    except UserError as error:
        raise UserError(str(error).partition("; ")[0]) from error  # what follows is advice about other files
    if not isinstance(content, dict):
        raise UserError(f"{path} must contain a dict; got a {type(content).__name__}")
    _require(path, content, keys)
    return content


def _require(path: Path, content: dict[str, Any], keys: Sequence[str]) -> None:
    if not content.keys() >= set(keys):
        found = ", ".join(map(str, list(content)[:5])) or "none"
        raise UserError(f"{path} is not a training state: it must contain the keys {', '.join(keys)}; found {found}")
