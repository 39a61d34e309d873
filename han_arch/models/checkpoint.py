"""Checkpoints and training states of a model: written whole or not at all, safe to load, complete."""

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.files import clear_refusal, replacing
from han_arch.models import REFUSED_WRITE
from han_arch.models.guard import LossGuard
from han_arch.models.training_step import TrainingStep
from han_arch.zoo.load import find_file, load_strict, warm_start
from han_arch.zoo.read import read_raw
from han_arch.zoo.recognise import HAN_DEFAULTS, read_checkpoint


class CheckpointModel(SRModel):
    """SRModel with files that can be trusted.

    - `save`: writes each file whole or not at all; an error stops the run. A checkpoint holds the options `network_g`
      beside `params` and `params_ema`.
    - `load_network`: never runs code from a file. For HAN it also reads the authors' and RCAN's checkpoints, and
      warm-starts.
    """

    step: TrainingStep
    guard: LossGuard
    scheduled_lrs: list[list[float]] | None  # during a warm-up, the schedule's learning rates of each optimizer

    def save(self, epoch: int, current_iter: int) -> None:
        """Save networks and training state of an iteration; -1, the end of training, saves the networks as `latest`.

        Raises:
            UserError: the system refused to write.
        """
        self.save_networks("latest" if current_iter == -1 else current_iter)
        if current_iter != -1:
            self.save_training_state(epoch, current_iter)

    @master_only
    def save_networks(self, label: int | str) -> None:
        """Save the trained network, and its average where there is one, as `net_g_<label>.pth`."""
        content: dict[str, Any] = {"network_g": dict(self.opt["network_g"])}
        nets = {"params": self.get_bare_model(self.net_g), "params_ema": getattr(self, "net_g_ema", None)}
        for key, net in nets.items():
            if net is not None:
                content[key] = {name: value.cpu() for name, value in net.state_dict().items()}
        self._write(content, "models", f"net_g_{label}.pth")

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save as `<iter>.state` what an exact resume needs."""
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "best_metric_results": getattr(self, "best_metric_results", {}),
            "random": _random_state(),
            "options": self.opt,
            "scaler": self.step.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "scheduled_lrs": self.scheduled_lrs,
        }
        self._write(state, "training_states", f"{current_iter}.state")

    def _write(self, content: dict[str, Any], folder: str, name: str) -> None:
        path = Path(self.opt["path"][folder]) / name
        with clear_refusal(path, REFUSED_WRITE), replacing(path, durable=True) as file:
            torch.save(content, file)

    def roll_back(self) -> str:
        """Load networks and optimizers of the newest checkpoint; return a line for the log.

        Iteration, schedule and learning rates stay.
        """
        folder = Path(self.opt["path"]["training_states"])
        newest = max((int(path.stem) for path in folder.glob("*.state") if path.stem.isdigit()), default=None)
        if newest is None:
            return "There is no checkpoint yet to roll back to."
        network = str(Path(self.opt["path"]["models"]) / f"net_g_{newest}.pth")
        self.load_network(self.net_g, network, True, "params")
        if hasattr(self, "net_g_ema"):
            self.load_network(self.net_g_ema, network, True, "params_ema")
        state = torch.load(folder / f"{newest}.state", map_location="cpu", weights_only=True)
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._set_lr(rates)
        return f"Rolled back to the checkpoint of iteration {newest}."

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Load a training state, complete or as BasicSR's SRModel writes it.

        Where the options of optimizer or schedule differ from the state's, the options hold.
        """
        fresh = [[dict(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        super().resume_training(resume_state)
        before, now = resume_state.get("options"), self.opt["train"]
        changed = isinstance(before, dict) and any(
            before["train"].get(key) != now.get(key) for key in ("optim_g", "optim_d", "scheduler")
        )
        if changed:
            self._restart_schedule(fresh, resume_state["iter"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]
        if "random" in resume_state:
            _set_random_state(resume_state["random"])
        if "scaler" in resume_state:
            self.step.scaler.load_state_dict(resume_state["scaler"])
            self.guard.load_state_dict(resume_state["guard"])
            self.scheduled_lrs = None if changed else resume_state["scheduled_lrs"]

    def _restart_schedule(self, fresh: list[list[dict[str, Any]]], done: int) -> None:
        """Give the optimizers the options' values, and move new schedulers to the current iteration.

        A loaded state would silently keep the old rate and schedule. BasicSR's cosine schedule would end in an error
        after the old periods. `fresh` holds the groups of each optimizer before the state was loaded.
        """
        for optimizer, groups in zip(self.optimizers, fresh, strict=True):
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.update(values)
        self.setup_schedulers()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about scheduler steps before the first optimizer step
            for scheduler in self.schedulers:
                for _ in range(done - 1):
                    scheduler.step()

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load a checkpoint into net.

        Args:
            net: the network, changed in place.
            load_path: a file in any form that the zoo reads; for HAN also a name of the zoo.
            strict: every key must exist and fit. Not strict is HAN's warm start: the backbone must fit, and the log
                lists what is loaded and what starts fresh.
            param_key: which state dict of the file; if it is missing, the best that the file has.

        Raises:
            UserError: not a checkpoint, or it does not fit the network.
        """
        bare = self.get_bare_model(net)
        if isinstance(bare, HAN):
            self._load_han(net, load_path, strict, param_key)
            return
        raw = read_raw(load_path, param_key)
        source = f"{load_path}, key {raw.weight_key}" if raw.weight_key else load_path
        get_root_logger().info(f"Loading {type(bare).__name__} from {source}.")
        state = dict(raw.tensors)
        self._print_different_keys_loading(bare, state, strict)
        try:
            bare.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            raise UserError(f"{load_path} does not fit {type(bare).__name__} as built: {error}") from error

    def _load_han(self, net: nn.Module, load_path: str, strict: bool, param_key: str | None) -> None:
        bare, options = self.get_bare_model(net), self.opt["network_g"]
        checkpoint = read_checkpoint(find_file(load_path), param_key)
        log = get_root_logger().info
        log(f"{load_path} is {checkpoint.summary}.")
        for note in checkpoint.notes:
            log(f"{load_path}: {note}.")
        if checkpoint.assumed:
            assumed = ", ".join(f"{key} {(HAN_DEFAULTS | options)[key]}" for key in checkpoint.assumed)
            log(f"{load_path} does not name all options of its network; assumed from network_g: {assumed}.")
        if strict:
            load_strict(bare, checkpoint, options)
            return
        report = warm_start(bare, checkpoint, options)
        log(f"Warm start from {load_path}: {report.summary}.")
        if net is getattr(self, "net_g_ema", None):
            # It has random weights of its own; what starts fresh must equal the trained network's.
            trained = self.get_bare_model(self.net_g).state_dict()
            bare.load_state_dict({name: trained[name] for name in report.fresh}, strict=False)


def _random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators, in types that `weights_only=True` loads."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: dict[str, Any]) -> None:
    """Load the result of `_random_state`; GPU states only where the number of GPUs is the same."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
