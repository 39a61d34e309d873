"""Checkpoints and training states of a model: written whole or not at all, safe to load, complete."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.models import random_state, schedule
from han_arch.models.saving import save_atomically
from han_arch.zoo.load import find_file, load_strict, warm_start
from han_arch.zoo.recognise import HAN_DEFAULTS, read_checkpoint


class CheckpointModel(SRModel):
    """SRModel whose files can be trusted.

    - `save_network`, `save_training_state`: written whole or not at all, an error stops the run; the checkpoint
      carries the options `network_g` beside `params` and `params_ema`.
    - `load_network`: never runs code; for HAN it takes the authors' and RCAN's checkpoints too, and warm-starts.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options = deepcopy(opt)  # BasicSR takes entries out of its own while it builds
        super().__init__(opt)

    def save_networks(self, label: int | str) -> None:
        """Save the trained network, and its average where there is one, as `net_g_<label>.pth`."""
        if hasattr(self, "net_g_ema"):
            self.save_network([self.net_g, self.net_g_ema], "net_g", label, param_key=["params", "params_ema"])
        else:
            self.save_network(self.net_g, "net_g", label)

    @master_only
    def save_network(
        self,
        net: nn.Module | list[nn.Module],
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = "params",
    ) -> None:
        """Save networks as `<net_label>_<iter or label>.pth`, -1 is `latest`: `network_g` and a state dict a key.

        Raises:
            OSError, RuntimeError: it could not be written.
        """
        label = "latest" if current_iter == -1 else current_iter
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content: dict[str, Any] = {"network_g": dict(self.opt["network_g"])}
        for one, key in zip(nets, keys, strict=True):
            content[key] = {name: value.cpu() for name, value in self.get_bare_model(one).state_dict().items()}
        save_atomically(content, os.path.join(self.opt["path"]["models"], f"{net_label}_{label}.pth"))

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save what resuming to the bit needs as `<iter>.state`; nothing at the end of training (iter -1).

        Raises:
            OSError, RuntimeError: it could not be written.
        """
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "best_metric_results": self._plain_best_results(),
            "random": random_state.capture(),
            "options": self.options,
            **self.step_state(),
        }
        path = os.path.join(self.opt["path"]["training_states"], f"{current_iter}.state")
        save_atomically(state, path)

    def _plain_best_results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """BasicSR's record of best results, NumPy numbers as Python's, which load with `weights_only=True`."""
        return {
            dataset: {metric: {**best, "val": float(best["val"])} for metric, best in metrics.items()}
            for dataset, metrics in getattr(self, "best_metric_results", {}).items()
        }

    def roll_back(self) -> str:
        """Load networks and optimizers of the newest checkpoint; the position in the run stays.

        Returns:
            What was done, for the log.
        """
        states = Path(self.opt["path"]["training_states"]).glob("*.state")
        newest = max((int(path.stem) for path in states if path.stem.isdigit()), default=None)
        if newest is None:
            return "There is no checkpoint yet to roll back to."
        network = os.path.join(self.opt["path"]["models"], f"net_g_{newest}.pth")
        self.load_network(self.net_g, network, True, "params")
        if hasattr(self, "net_g_ema"):
            self.load_network(self.net_g_ema, network, True, "params_ema")
        state_path = os.path.join(self.opt["path"]["training_states"], f"{newest}.state")
        state = torch.load(state_path, map_location="cpu", weights_only=True)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr
        return f"Rolled back to the checkpoint of iteration {newest}."

    def step_state(self) -> dict[str, Any]:
        """What a subclass's training step carries from one iteration to the next, in plain types and tensors."""
        return {}

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Put back what `save_training_state` saved, or as much of it as a state of BasicSR's SRModel has.

        Where the options of optimizer or schedule are others than the state's, the options hold.
        """
        groups = schedule.group_options(self.optimizers)
        super().resume_training(resume_state)
        if schedule.changed(resume_state.get("options"), self.options):
            schedule.start_anew(self, groups, resume_state["iter"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]
        if "random" in resume_state:
            random_state.restore(resume_state["random"])

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load a checkpoint into net.

        Args:
            net: the network, changed in place.
            load_path: file with a state dict, or a dict of state dicts; for HAN any form that the zoo reads, or
                one of its names.
            strict: every key must be there and fit. Not strict is HAN's warm start: the backbone must fit, and the log
                lists what was taken and what starts fresh.
            param_key: which state dict; None: the file itself is one. When it is missing, the one that is there.

        Raises:
            UserError: not a checkpoint, or it does not fit the network.
        """
        if isinstance(self.get_bare_model(net), HAN):
            self._load_han(net, load_path, strict, param_key)
            return
        try:
            content = torch.load(load_path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises many kinds, some advising to load unsafely
            raise UserError(
                f"{load_path} is no checkpoint that can be loaded safely ({type(error).__name__}); wanted a file that "
                "torch.save made of tensors"
            ) from error
        state, used_key = _choose_state(content, param_key, load_path)
        logger = get_root_logger()
        logger.info(f"Loading {type(self.get_bare_model(net)).__name__} from {load_path}, key {used_key}.")
        state = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in state.items()}
        bare = self.get_bare_model(net)
        self._print_different_keys_loading(bare, state, strict)
        try:
            bare.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            raise UserError(f"{load_path} does not fit {type(bare).__name__} as built: {error}") from error

    def _load_han(self, net: nn.Module, load_path: str, strict: bool, param_key: str | None) -> None:
        bare = self.get_bare_model(net)
        checkpoint = read_checkpoint(find_file(load_path), param_key)
        logger = get_root_logger()
        logger.info(f"{load_path} is {checkpoint.summary}.")
        for note in checkpoint.notes:
            logger.info(f"{load_path}: {note}.")
        if checkpoint.assumed:
            network_g = HAN_DEFAULTS | self.opt["network_g"]
            assumed = ", ".join(f"{key} {network_g[key]}" for key in checkpoint.assumed)
            logger.info(f"{load_path} does not tell all of its network; it is assumed to have network_g's {assumed}.")
        if strict:
            load_strict(bare, checkpoint, self.opt["network_g"])
            return
        report = warm_start(bare, checkpoint, self.opt["network_g"])
        logger.info(f"Warm start from {load_path}: {report.summary}.")
        if net is getattr(self, "net_g_ema", None):
            # Built with random weights of its own; what starts fresh must be the trained network's.
            trained = self.get_bare_model(self.net_g).state_dict()
            bare.load_state_dict({name: trained[name] for name in report.fresh}, strict=False)


def _choose_state(content: Any, param_key: str | None, load_path: str) -> tuple[dict[str, torch.Tensor], str]:
    if not isinstance(content, dict):
        raise UserError(f"{load_path} holds a {type(content).__name__}; wanted a dict of tensors")
    if param_key is None:
        return content, "(the file itself)"
    for key in (param_key, "params_ema", "params"):
        if key in content:
            return content[key], key
    raise UserError(
        f"{load_path} has neither {param_key!r} nor params; it has {', '.join(list(content)[:5])}; "
        "for a file that is a state dict itself set path:param_key_g: ~"
    )
