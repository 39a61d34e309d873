"""Checkpoints and training states of a model: written whole or not at all, safe to load, complete."""

import random
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
from han_arch.models import REFUSED_WRITE, schedule
from han_arch.zoo.load import find_file, load_strict, warm_start
from han_arch.zoo.read import read_raw
from han_arch.zoo.recognise import HAN_DEFAULTS, read_checkpoint


def write_file(content: Any, path: Path) -> None:
    """Write with `torch.save`, whole or not at all.

    Raises:
        UserError: the system refused; an old file stays.
    """
    with clear_refusal(path, REFUSED_WRITE), replacing(path, durable=True) as file:
        torch.save(content, file)


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators, in types that `weights_only=True` loads."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Load the result of `random_state`; GPU states only where the number of GPUs is the same."""
    random.setstate(state["python"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


class CheckpointModel(SRModel):
    """SRModel with files that can be trusted, and with options that it never changes.

    - `save_network`, `save_training_state`: write a file whole or not at all; an error stops the run. A checkpoint
      holds the options `network_g` beside `params` and `params_ema`.
    - `load_network`: never runs code from a file. For HAN it also reads the authors' and RCAN's checkpoints, and
      warm-starts.
    - `setup_optimizers`, `setup_schedulers`: take every class of `models.schedule`. SRModel's remove entries from the
      options.
    """

    def setup_optimizers(self) -> None:
        """Build the optimizer of the trained network."""
        for name, parameter in self.net_g.named_parameters():
            if not parameter.requires_grad:
                get_root_logger().warning(f"{name} will not be trained.")
        options = dict(self.opt["train"]["optim_g"])
        parameters = [parameter for parameter in self.net_g.parameters() if parameter.requires_grad]
        self.optimizer_g = self.get_optimizer(options.pop("type"), parameters, **options)
        self.optimizers.append(self.optimizer_g)

    def get_optimizer(
        self, optim_type: str, params: list[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """Build an optimizer of torch, with torch's own options.

        Raises:
            UserError: another type, or wrong options.
        """
        optimizer: torch.optim.Optimizer = schedule.build("optim_g", optim_type, params, lr=lr, **kwargs)
        return optimizer

    def setup_schedulers(self) -> None:
        """Build the learning-rate schedule of each optimizer."""
        options = dict(self.opt["train"]["scheduler"])
        kind = options.pop("type")
        self.schedulers = [schedule.build("scheduler", kind, optimizer, **options) for optimizer in self.optimizers]

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
        """Save `network_g` and one state dict per key as `<net_label>_<current_iter>.pth`; -1 is `latest`.

        Raises:
            UserError: the system refused to write.
        """
        label = "latest" if current_iter == -1 else current_iter
        nets = net if isinstance(net, list) else [net]
        keys = param_key if isinstance(param_key, list) else [param_key]
        content: dict[str, Any] = {"network_g": dict(self.opt["network_g"])}
        for one, key in zip(nets, keys, strict=True):
            content[key] = {name: value.cpu() for name, value in self.get_bare_model(one).state_dict().items()}
        write_file(content, Path(self.opt["path"]["models"]) / f"{net_label}_{label}.pth")

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save as `<iter>.state` what an exact resume needs; nothing at the end of training (iter -1).

        Raises:
            UserError: the system refused to write.
        """
        if current_iter == -1:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "best_metric_results": self._plain_best_results(),
            "random": random_state(),
            "options": self.opt,
            **self.step_state(),
        }
        write_file(state, Path(self.opt["path"]["training_states"]) / f"{current_iter}.state")

    def _plain_best_results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return BasicSR's best results with Python's numbers, which load with `weights_only=True`."""
        return {
            dataset: {metric: {**best, "val": float(best["val"])} for metric, best in metrics.items()}
            for dataset, metrics in getattr(self, "best_metric_results", {}).items()
        }

    def step_state(self) -> dict[str, Any]:
        """Return what a subclass's step carries to the next iteration, in plain types and tensors."""
        return {}

    def roll_back(self) -> str:
        """Load networks and optimizers of the newest checkpoint; the position in the run stays.

        Returns:
            A line for the log.
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
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            rates = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, lr in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = lr
        return f"Rolled back to the checkpoint of iteration {newest}."

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Load a training state, complete or as BasicSR's SRModel writes it.

        Where the options of optimizer or schedule differ from the state's, the options hold.
        """
        groups = schedule.group_options(self.optimizers)
        super().resume_training(resume_state)
        if schedule.is_changed(resume_state.get("options"), self.opt):
            schedule.restart(self, groups, resume_state["iter"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]
        if "random" in resume_state:
            set_random_state(resume_state["random"])

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
        bare = self.get_bare_model(net)
        checkpoint = read_checkpoint(find_file(load_path), param_key)
        logger = get_root_logger()
        logger.info(f"{load_path} is {checkpoint.summary}.")
        for note in checkpoint.notes:
            logger.info(f"{load_path}: {note}.")
        if checkpoint.assumed:
            network_g = HAN_DEFAULTS | self.opt["network_g"]
            assumed = ", ".join(f"{key} {network_g[key]}" for key in checkpoint.assumed)
            logger.info(f"{load_path} does not name all options of its network; assumed from network_g: {assumed}.")
        if strict:
            load_strict(bare, checkpoint, self.opt["network_g"])
            return
        report = warm_start(bare, checkpoint, self.opt["network_g"])
        logger.info(f"Warm start from {load_path}: {report.summary}.")
        if net is getattr(self, "net_g_ema", None):
            # It has random weights of its own; what starts fresh must equal the trained network's.
            trained = self.get_bare_model(self.net_g).state_dict()
            bare.load_state_dict({name: trained[name] for name in report.fresh}, strict=False)
