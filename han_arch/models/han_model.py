"""The model HANModel, which trains and validates HAN, EDSR and RCAN."""

import logging
from functools import cached_property
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from han_arch.errors import UserError
from han_arch.files import NO_ROOM
from han_arch.inference import variants
from han_arch.models.checkpoint import CheckpointModel, random_state, set_random_state
from han_arch.models.guard import LossGuard
from han_arch.models.losses import LossTerms
from han_arch.models.training_step import TrainingStep, build
from han_arch.models.validation import validate
from han_arch.speed.compilation import compile_blocks
from han_arch.speed.winograd import use_winograd


class HANModel(CheckpointModel):
    """Model for `model_type: HANModel` in option files. It trains and validates HAN, EDSR and RCAN.

    It supports all options of BasicSR's SRModel, and in addition:

    - in the section `train`: `precision`, `channels_last`, `accumulate` and `grad_clip` (see TrainingStep), `compile`,
      and `guard` (see LossGuard);
    - at the top level of the option file: `winograd` (see `han_arch.use_winograd`).

    Losses, optimizers and schedules can come from BasicSR, torch or a plugin.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        if opt.get("winograd"):
            count = min(use_winograd(net) for net in (self.net_g, getattr(self, "net_g_ema", self.net_g)))
            level = logging.INFO if count else logging.WARNING
            get_root_logger().log(level, f"{count} convolutions of the network can use Winograd's algorithm.")

    def init_training_settings(self) -> None:
        """Build all parts of the training: averaged network, losses, optimizer, schedule, TrainingStep, LossGuard."""
        train_opt = self.opt["train"]
        options = ("precision", "channels_last", "accumulate", "grad_clip")
        self.step = TrainingStep(self.device, **{name: train_opt[name] for name in options if name in train_opt})
        self.guard = LossGuard(**(train_opt.get("guard") or {}))
        self.scheduled_lrs = None
        self.net_g: nn.Module = self.net_g.to(memory_format=self.step.memory_format).train()
        self.ema_decay = train_opt.get("ema_decay", 0)
        if self.ema_decay > 0:
            self._build_average()
        self.losses = LossTerms(train_opt).to(self.device)
        names = ", ".join(f"{option} {type(loss).__name__}" for option, loss in self.losses.items())
        get_root_logger().info(f"Losses: {names}")
        self.setup_optimizers()
        self.setup_schedulers()
        if train_opt.get("compile"):
            compile_blocks(self.get_bare_model(self.net_g))  # one version is enough: all batches have one size

    def _build_average(self) -> None:
        get_root_logger().info(f"Use Exponential Moving Average with decay: {self.ema_decay}")
        self.net_g_ema: nn.Module = build_network(self.opt["network_g"]).to(self.device)
        path = self.opt["path"]
        if path.get("pretrain_network_g") is not None:
            strict = path.get("strict_load_g", True)
            self.load_network(self.net_g_ema, path["pretrain_network_g"], strict, "params_ema")
        else:
            self.model_ema(0)
        self.net_g_ema.eval()

    def setup_optimizers(self) -> None:
        """Build the optimizer for all weights of the trained network that require a gradient."""
        parameters = []
        for name, parameter in self.net_g.named_parameters():
            if parameter.requires_grad:
                parameters.append(parameter)
            else:
                get_root_logger().warning(f"{name} is not trained, because it does not require a gradient.")
        self.optimizer_g = build("optim_g", self.opt["train"]["optim_g"], parameters)
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        """Build a learning-rate schedule for each optimizer."""
        settings = self.opt["train"]["scheduler"]
        self.schedulers = [build("scheduler", settings, optimizer) for optimizer in self.optimizers]

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to its device and wrap it for parallel runs. Unlike SRModel, allow distributed CPU runs."""
        if self.opt["dist"] and self.device.type == "cpu":
            return DistributedDataParallel(net, find_unused_parameters=self.opt.get("find_unused_parameters", False))
        return super().model_to_device(net)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Advance the schedules to an iteration. In the first `warmup_iter` iterations, raise the rates linearly.

        Differences from BasicSR: the warm-up rises to the learning rate that the schedule gives, and milestones also
        take effect during the warm-up.
        """
        if self.scheduled_lrs is not None:
            self._set_lr(self.scheduled_lrs)
            self.scheduled_lrs = None
        if current_iter > 1:
            for scheduler in self.schedulers:
                scheduler.step()
        if current_iter < warmup_iter:
            # A scheduler computes its next rate from the current one, so the next call restores these rates first.
            self.scheduled_lrs = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
            self._set_lr([[lr * current_iter / warmup_iter for lr in lrs] for lrs in self.scheduled_lrs])

    def feed_data(self, data: dict[str, Any]) -> None:
        """Store a batch: "lq" (LR images), "gt" (for training and metrics), and file paths ("gt_path" or "lq_path")."""
        super().feed_data(data)
        self.files = list(data.get("gt_path") or data.get("lq_path") or [])

    def begin_iteration(self) -> None:
        """Remember what an iteration changes before it changes weights, for `undo_iteration`."""
        super().begin_iteration()
        self.can_undo = self._steps_change_weights_last

    @cached_property  # to look for all buffers of a large network takes 2 ms
    def _steps_change_weights_last(self) -> bool:
        # A subclass may change other weights first, and batch normalisation changes its statistics in the forward pass.
        return type(self).optimize_parameters is HANModel.optimize_parameters and not any(
            name.endswith("running_mean") for name, _ in self.net_g.named_buffers()
        )

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one training step on the batch from `feed_data`. Store the result in `output`, the losses in `log_dict`.

        A bad step (see LossGuard) is skipped, and the log shows the paths of its images.

        Raises:
            UserError: too many bad steps in a row.
        """
        self.output, terms, norm = self.step.backward(self.net_g, self.optimizer_g, self.lq, self.gt, self.losses)
        numbers = {name: float(value) for name, value in self.reduce_loss_dict(terms).items()}
        total = sum(numbers.values())
        overflowed = self.step.scaler.is_enabled() and not norm.isfinite()  # then the fp16 scaler skips the step
        problem = None if overflowed else self.guard.find_problem(numbers, total, float(norm))
        self.guard.count(problem, total, self.files)
        self.can_undo = False
        if problem is None:
            self.step.step(self.optimizer_g)
            if self.ema_decay > 0:
                self.model_ema(decay=self.ema_decay)
        else:
            logger = get_root_logger()
            logger.warning(f"Skipped iteration {current_iter}: {problem}; images of the batch: {', '.join(self.files)}")
            if self.guard.action == "rollback":
                logger.warning(self.roll_back())
        self.log_dict = {**numbers, "grad_norm": float(norm)}

    def reduce_loss_dict(self, loss_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average each loss term over all processes. All processes get the same means and so skip the same steps."""
        if not self.opt["dist"]:
            return loss_dict
        means = torch.stack(list(loss_dict.values()))
        torch.distributed.all_reduce(means)
        return dict(zip(loss_dict, means / self.opt["world_size"], strict=True))

    def model_ema(self, decay: float = 0.999) -> None:
        """Update the averaged network: w = decay * w + (1 - decay) * trained_w. Copy all buffers."""
        averaged, trained = self.net_g_ema, self.get_bare_model(self.net_g)
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(trained.parameters()), 0)
            for target, source in zip(averaged.buffers(), trained.buffers(), strict=True):
                target.copy_(source)

    def test(self) -> None:
        """Upscale `lq` with the inference variant in the option `val:inference`; store the result in `output`.

        Use the averaged network if there is one. Otherwise use the trained network without its DistributedDataParallel
        wrapper, because this wrapper would wait for the other processes.
        """
        net = getattr(self, "net_g_ema", self.get_bare_model(self.net_g))
        was_training = net.training
        net.eval()
        with torch.no_grad():
            self.output = variants.apply(self.opt["val"].get("inference", "full"), net, self.opt["scale"])(self.lq)
        net.train(was_training)

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Add the metrics of `val:metrics` to the best results; unlike BasicSR, also those that a resumed run adds."""
        best: dict[str, dict[str, Any]] = getattr(self, "best_metric_results", {})
        self.best_metric_results = best
        records = best.setdefault(dataset_name, {})
        for metric, settings in self.opt["val"]["metrics"].items():
            better = settings.get("better", "higher")
            if records.get(metric, {}).get("better") != better:
                records[metric] = {"better": better, "val": float("-inf" if better == "higher" else "inf"), "iter": -1}

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Compute the metrics on the data set of `dataloader` (see `validate`), and log them."""
        name = dataloader.dataset.opt["name"]
        before = random_state()
        try:
            results = validate(self, dataloader.dataset, current_iter, tb_logger, save_img)
        except Exception as error:  # data sets and metrics of other packages may raise any exception
            if isinstance(error, (UserError, MemoryError)) or "out of memory" in str(error):
                raise
            if isinstance(error, OSError) and error.errno in NO_ROOM:  # not a fault of the data set
                raise
            reason = " ".join((str(error) or type(error).__name__).split())
            raise UserError(f"the images of {name} could not be measured: {reason}; check this data set") from error
        finally:
            set_random_state(before)  # a metric may draw random numbers
        self.metric_results: dict[str, float] = results
        if not self.metric_results:
            get_root_logger().info(
                f"Validation {name}: no metrics, because val:metrics is empty or GT images are missing"
            )
            return
        if self.is_train:  # `basicsr test` has no best iteration
            self._initialize_best_metric_results(name)
            for metric, value in self.metric_results.items():
                self._update_best_metric_result(name, metric, value, current_iter)
        if self.opt["rank"] == 0:
            self._log_validation_metric_values(current_iter, name, tb_logger)
