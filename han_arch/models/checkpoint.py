"""Save and load checkpoints and training states. A file is saved completely or not at all; loading it runs no code."""

import copy
import logging
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
from han_arch.files import clear_refusal, replacing
from han_arch.models import REFUSED_WRITE
from han_arch.models.any_network import load_weights
from han_arch.models.guard import LossGuard
from han_arch.models.training_step import TrainingStep
from han_arch.zoo.load import find_file, load_strict, warm_start
from han_arch.zoo.read import read_torch
from han_arch.zoo.recognise import HAN_DEFAULTS, read_checkpoint


class CheckpointModel(SRModel):
    """SRModel that saves and loads files safely. Differences from SRModel:

    - A file is written completely or not at all. A write error stops the run.
    - A checkpoint contains the options `network_g`, the trained weights (key `params`) and the averaged weights (key
      `params_ema`).
    - `load_network` never runs code from a file. If the network is HAN, `load_network` also reads RCAN checkpoints and
      the checkpoints of HAN's authors; with `strict=False`, only the weights of the backbone must have the same shapes.
    """

    step: TrainingStep
    guard: LossGuard
    scheduled_lrs: list[list[float]] | None  # rates of the schedule during a warm-up; else None
    validated: int = 0  # iteration of the newest complete validation

    def save_networks(self, label: int | str) -> None:
        """Save the trained network, and the averaged network if there is one, as `net_g_<label>.pth`."""
        nets = {"params": self.net_g}
        if hasattr(self, "net_g_ema"):
            nets["params_ema"] = self.net_g_ema
        self.save_network(list(nets.values()), "net_g", label, list(nets))

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = "params",
    ) -> None:
        """Save one or several networks in the file `<net_label>_<current_iter>.pth`.

        Args:
            net_label: if it is "net_g", the file also contains the options `network_g`.
            current_iter: an iteration number, or a word such as "best"; -1 means "latest".
            param_key: key of the state dict in the file; for a list of networks, a list of keys.

        Raises:
            UserError: the file could not be written.
        """
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content: dict[str, Any] = {"network_g": dict(self.opt["network_g"])} if net_label == "net_g" else {}
        for bare, key in zip(map(self.get_bare_model, nets), keys, strict=True):
            content[key] = {name: value.cpu() for name, value in bare.state_dict().items()}
        self._write(content, "models", f"{net_label}_{'latest' if current_iter == -1 else current_iter}.pth")

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write the file `<current_iter>.state` with all that an exact resume needs. If current_iter is -1, do nothing.

        Raises:
            UserError: the file could not be written.
        """
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "best_metric_results": getattr(self, "best_metric_results", {}),
            "random": random_state(),
            "options": self.opt,
            "scaler": self.step.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "scheduled_lrs": self.scheduled_lrs,
            "validated": self.validated,
        }
        self._write(state, "training_states", f"{current_iter}.state")

    def _write(self, content: dict[str, Any], folder: str, name: str) -> None:
        path = Path(self.opt["path"][folder]) / name
        with clear_refusal(path, REFUSED_WRITE), replacing(path, durable=True) as file:
            torch.save(content, file)

    def roll_back(self) -> str:
        """Load networks and optimizer states from the newest checkpoint; return a line for the log.

        The iteration number, the schedule and the learning rates do not change.
        """
        folder = Path(self.opt["path"]["training_states"])
        newest = max((int(path.stem) for path in folder.glob("*.state") if path.stem.isdigit()), default=None)
        if newest is None:
            return "Could not roll back, because no checkpoint has been saved yet."
        network = str(Path(self.opt["path"]["models"]) / f"net_g_{newest}.pth")
        self.load_network(self.net_g, network, True, "params")
        if hasattr(self, "net_g_ema"):
            self.load_network(self.net_g_ema, network, True, "params_ema")
        state = read_torch(folder / f"{newest}.state")
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._set_lr(rates)
        return f"Rolled back to the checkpoint of iteration {newest}."

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Load a training state that this class or BasicSR's SRModel has saved.

        If the options of an optimizer or of the schedule have changed since the save, use the current options.
        """
        fresh = [[dict(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        super().resume_training(resume_state)
        self.validated = resume_state.get("validated", resume_state["iter"])  # older states are saved after validation
        if "scaler" not in resume_state:  # SRModel saved it
            return
        before, now = resume_state["options"]["train"], self.opt["train"]
        self.scheduled_lrs = resume_state["scheduled_lrs"]
        if any(before.get(key) != now.get(key) for key in ("optim_g", "optim_d", "scheduler")):
            self._restart_schedule(fresh, resume_state["iter"])
        self.best_metric_results = resume_state["best_metric_results"]
        if resume_state["scaler"]:  # empty if the run had another precision than fp16 until now
            self.step.scaler.load_state_dict(resume_state["scaler"])
        self.guard.load_state_dict(resume_state["guard"])
        set_random_state(resume_state["random"])

    def begin_iteration(self) -> None:
        """Remember what an iteration changes before it changes weights, for `undo_iteration`."""
        groups = [[_without_weights(group) for group in optimizer.param_groups] for optimizer in self.optimizers]
        schedulers = [scheduler.state_dict() for scheduler in self.schedulers]
        self._before = copy.deepcopy((groups, schedulers, self.scheduled_lrs, self.guard.state_dict()))
        self._random_before = random_state()
        self.can_undo = False  # a subclass that knows when its weights change sets it to True until then

    def undo_iteration(self) -> bool:
        """Restore the state before the iteration in progress; return False if weights have already changed."""
        if not self.can_undo:
            return False
        groups, schedulers, self.scheduled_lrs, guard = self._before
        self._set_groups(groups)
        for scheduler, state in zip(self.schedulers, schedulers, strict=True):
            scheduler.load_state_dict(state)
        self.guard.load_state_dict(guard)
        set_random_state(self._random_before)
        return True

    def _set_groups(self, groups: list[list[dict[str, Any]]]) -> None:
        for optimizer, own in zip(self.optimizers, groups, strict=True):
            for group, values in zip(optimizer.param_groups, own, strict=True):
                group.update(values)

    def _restart_schedule(self, fresh: list[list[dict[str, Any]]], done: int) -> None:
        """Give the options in `fresh` to the optimizers. Build new schedulers and advance them to iteration `done`.

        `fresh` contains, for each optimizer, the options of its parameter groups, taken from this run's option file.
        """
        self._set_groups(fresh)
        self.scheduled_lrs = None
        self.setup_schedulers()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about a step before the optimizer's first
            for scheduler in self.schedulers:
                for _ in range(done - 1):
                    scheduler.step()

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load the weights of a checkpoint into a network.

        Args:
            load_path: path of a `.safetensors` or PyTorch checkpoint; for HAN also a zoo name, such as han-s-x4.
            strict: True = the file must contain all weights of the network, and no others. False = load the weights
                that fit. For HAN, False is a warm start; the backbone must fit, and the log lists the loaded weights.
            param_key: preferred key of the weights. If the file lacks it, use params_ema, params or another known key.

        Raises:
            UserError: the file is not a checkpoint, has nan or inf in a weight, or does not fit the network.
        """
        bare = self.get_bare_model(net)
        if isinstance(bare, HAN):
            self._load_han(net, load_path, strict, param_key)
            return
        raw = load_weights(self, net, load_path, strict, param_key)
        self._mention_average(load_path, raw.weight_key, raw.keys)

    def _load_han(self, net: nn.Module, load_path: str, strict: bool, param_key: str | None) -> None:
        bare, options = self.get_bare_model(net), self.opt["network_g"]
        file, sha256 = find_file(load_path)
        checkpoint = read_checkpoint(file, param_key, required=False, sha256=sha256)
        log = get_root_logger().info
        log(f"{load_path} is {checkpoint.summary}.")
        for note in checkpoint.notes:
            log(f"{load_path}: {note}.")
        self._mention_average(load_path, checkpoint.weight_key, checkpoint.keys)
        if checkpoint.assumed:
            assumed = ", ".join(f"{key} {(HAN_DEFAULTS | options)[key]}" for key in checkpoint.assumed)
            log(f"{load_path} does not contain these options; they are taken from network_g: {assumed}.")
        if strict:
            load_strict(bare, checkpoint, options)
            return
        report = warm_start(bare, checkpoint, options)
        log(f"Warm start from {load_path}: {report.summary}.")
        if net is getattr(self, "net_g_ema", None):
            # Fresh weights are random in both networks; the averaged network must start equal to the trained one.
            trained = self.get_bare_model(self.net_g).state_dict()
            bare.load_state_dict({name: trained[name] for name in report.fresh}, strict=False)

    def _mention_average(self, load_path: str, used: str | None, keys: tuple[str, ...]) -> None:
        """Log that a test measures other weights than the validation, and how to choose."""
        average = next((key for key in keys if "ema" in key), None)
        if self.is_train or average is None or average == used:
            return
        chosen = "param_key_g" in self.opt["path"]
        get_root_logger().log(
            logging.INFO if chosen else logging.WARNING,
            f"{load_path} contains the weights {' and '.join(keys)}. This test measures {used}. To measure {average}, "
            f"as validation in training and `basicsr leaderboard` do, set path:param_key_g: {average}",
        )


def _without_weights(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def random_state() -> dict[str, Any]:
    """Return the random states of Python, NumPy and torch, in types that `torch.load(weights_only=True)` accepts."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the result of `random_state`; skip the GPUs' states if the number of GPUs has changed."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
