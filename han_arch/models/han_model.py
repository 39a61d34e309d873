"""HANModel: trains and validates HAN, and also BasicSR's networks."""

import os
from typing import Any

import torch
from basicsr.archs import build_network
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from han_arch.inference import variants
from han_arch.models.checkpoint import CheckpointModel
from han_arch.models.guard import LossGuard
from han_arch.models.losses import LossTerms
from han_arch.models.training_step import TrainingStep, build
from han_arch.models.validation import strip, validate
from han_arch.speed import winograd
from han_arch.speed.compilation import compile_blocks


class HANModel(CheckpointModel):
    """Model that trains and validates HAN; it also trains BasicSR's EDSR and RCAN.

    Option files select it by `model_type: HANModel`. It supports all options of BasicSR's SRModel, and these:

    - in the section `train`: `precision`, `channels_last`, `accumulate` and `grad_clip` (see TrainingStep), `compile`,
      and `guard` (see LossGuard);
    - at the top level of the option file: `winograd` (see `han_arch.use_winograd`).

    Losses, optimizers and schedules can come from BasicSR, torch or a plugin. The docstrings of the methods describe
    the differences from SRModel.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        if opt.get("winograd"):
            winograd.use_and_log([self.net_g, getattr(self, "net_g_ema", self.net_g)], get_root_logger())

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
        """Build the averaged network. Copy its weights from the pretrained file, or else from the trained network."""
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
        for name, parameter in self.net_g.named_parameters():
            if not parameter.requires_grad:
                get_root_logger().warning(
                    f"The parameter {name} is not trained, because it does not require a gradient."
                )
        parameters = [parameter for parameter in self.net_g.parameters() if parameter.requires_grad]
        self.optimizer_g = build("optim_g", self.opt["train"]["optim_g"], parameters)
        self.optimizers.append(self.optimizer_g)

    def setup_schedulers(self) -> None:
        """Build a learning-rate schedule for each optimizer."""
        settings = self.opt["train"]["scheduler"]
        self.schedulers = [build("scheduler", settings, optimizer) for optimizer in self.optimizers]

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move a network to its device and wrap it, as SRModel does; distributed runs also work without a GPU."""
        if self.opt["dist"] and self.device.type == "cpu":
            return DistributedDataParallel(net, find_unused_parameters=self.opt.get("find_unused_parameters", False))
        return super().model_to_device(net)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Advance the schedules by one iteration; during the warm-up, scale the learning rates up linearly.

        Differences from BasicSR: the warm-up ends at the schedule's learning rate, and schedule milestones also take
        effect during the warm-up.

        Args:
            current_iter: number of the iteration that starts.
            warmup_iter: number of iterations of the warm-up; -1: no warm-up.
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
        """Store a batch for the next training step or test.

        Args:
            data: dict with the keys "lq" (LR images), "gt" (ground truth; needed for training and metrics), and
                "gt_path" or "lq_path" (file paths).
        """
        super().feed_data(data)
        self.files = list(data.get("gt_path") or data.get("lq_path") or [])

    def optimize_parameters(self, current_iter: int) -> None:
        """Do one training step on the batch from `feed_data`. Set `output`, and the losses in `log_dict`.

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
        """Average each loss term over all processes. All processes get the same means, so they skip the same steps."""
        if not self.opt["dist"]:
            return loss_dict
        means = torch.stack(list(loss_dict.values()))
        torch.distributed.all_reduce(means)
        return dict(zip(loss_dict, means / self.opt["world_size"], strict=True))

    def model_ema(self, decay: float = 0.999) -> None:
        """Update the averaged network: weights = decay * weights + (1 - decay) * trained weights; copy buffers."""
        averaged, trained = self.net_g_ema, self.get_bare_model(self.net_g)
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(trained.parameters()), 0)
            for target, source in zip(averaged.buffers(), trained.buffers(), strict=True):
                target.copy_(source)

    def test(self) -> None:
        """Upscale `lq` by the inference variant `val:inference`, and store the result in `output`.

        If there is an averaged network, use it. Otherwise use the trained network, without its DistributedDataParallel
        wrapper: the wrapper would wait for the other processes.
        """
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        with torch.no_grad():
            run = variants.apply(self.opt["val"].get("inference", "full"), net, self.opt["scale"])
            self.output = run(self.lq)
        net.train(was_training)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Compute and log the metrics on a data set; each process handles a share of the images.

        Args:
            dataloader: BasicSR's loader; only its attribute `dataset` is used.
            current_iter: number of the iteration; in `basicsr test`, the name of the experiment.
            tb_logger: TensorBoard's writer in the first process; None in the others.
            save_img: save the outputs as PNG files; unlike in BasicSR, each data set has its own folder.
        """
        name = dataloader.dataset.opt["name"]

        def image_path(image: str) -> str:
            suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
            parts = [name, image] if self.is_train else [name]
            return os.path.join(self.opt["path"]["visualization"], *parts, f"{image}_{suffix}.png")

        def show(image: str, versions: list[Tensor]) -> None:
            tb_logger.add_image(f"{name}/{image}, LQ SR GT", strip(versions), current_iter)

        save, shown = image_path if save_img else None, show if tb_logger is not None else None
        self.metric_results: dict[str, float] = validate(self, dataloader.dataset, save, shown)
        if not self.metric_results:
            get_root_logger().info(
                f"Validation {name}: no metrics, because val:metrics is empty or there are no GT images"
            )
            return
        self._initialize_best_metric_results(name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        if self.opt["rank"] == 0:
            self._log_validation_metric_values(current_iter, name, tb_logger)

    def _log_validation_metric_values(self, current_iter: int | str, dataset_name: str, tb_logger: Any) -> None:
        """Log the metrics as SRModel does. In `basicsr test`, do not log the iteration with the best value."""
        if self.is_train:
            super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)
            return
        metrics = [f"\t # {key}: {value:.4f}" for key, value in self.metric_results.items()]
        get_root_logger().info("\n".join([f"Validation {dataset_name}", *metrics]) + "\n")
