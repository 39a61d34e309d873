"""HANModel: what one training step and one validation do, for HAN and for BasicSR's networks alike."""

import os
from typing import Any

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from han_arch.errors import UserError
from han_arch.inference import variants
from han_arch.models import schedule
from han_arch.models.checkpoint import CheckpointModel
from han_arch.models.guard import LossGuard
from han_arch.models.training_step import TrainingStep
from han_arch.models.validation import strip, validate
from han_arch.speed.compilation import compile_blocks
from han_arch.speed.winograd import use_winograd

OPTIMIZERS: dict[str, Any] = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


class HANModel(CheckpointModel):
    """SRModel for HAN, and for BasicSR's EDSR and RCAN too, so that all share one step.

    Option files choose it by `model_type: HANModel`. Besides SRModel's options `train` may have `precision`,
    `channels_last`, `accumulate`, `grad_clip` (see TrainingStep), `compile` and `guard` (see LossGuard);
    `winograd` at the top level is for training and test (see `han_arch.use_winograd`). New or changed against SRModel,
    besides what CheckpointModel says:

    - `model_to_device`: distributed training on CPUs as well.
    - `get_optimizer`: AdamW besides Adam.
    - `update_learning_rate`: after a warm-up the schedule's rate is reached, and milestones inside it count.
    - `optimize_parameters`: the options above; a bad step is told with its files and left out.
    - `model_ema`: buffers are copied too.
    - `reduce_loss_dict`: every process gets the means, so that all judge a step alike.
    - `validation`: shared among processes, on the network without its distributed wrapper, whose forward would wait
      for the others.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        if opt.get("winograd"):
            count = use_winograd(self.get_bare_model(self.net_g))
            log = get_root_logger().info if count else get_root_logger().warning
            log(f"{count} convolutions of the network can run by Winograd's algorithm.")
            if hasattr(self, "net_g_ema"):
                use_winograd(self.net_g_ema)

    def init_training_settings(self) -> None:
        """Losses, optimizers and schedulers as in SRModel, and the step's own options."""
        train_opt = self.opt["train"]
        names = ("precision", "channels_last", "accumulate", "grad_clip")
        self.step = TrainingStep(self.device, **{name: train_opt[name] for name in names if name in train_opt})
        self.guard = LossGuard(**(train_opt.get("guard") or {}))
        self.scheduled_lrs: list[list[float]] | None = None
        self.net_g: nn.Module = self.step.prepare(self.net_g)
        super().init_training_settings()
        if train_opt.get("compile"):
            compile_blocks(self.get_bare_model(self.net_g))  # batches have one size

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """As BasicSR's; without a GPU, DistributedDataParallel gets no device."""
        if self.opt["dist"] and self.device.type == "cpu":
            return DistributedDataParallel(net, find_unused_parameters=self.opt.get("find_unused_parameters", False))
        return super().model_to_device(net)

    def get_optimizer(self, optim_type: str, params: list[Tensor], lr: float, **kwargs: Any) -> torch.optim.Optimizer:
        """Adam or AdamW, with torch's own options.

        Raises:
            UserError: another type.
        """
        if optim_type not in OPTIMIZERS:
            raise UserError(f"train:optim_g:type must be one of {', '.join(OPTIMIZERS)}; got {optim_type!r}")
        optimizer: torch.optim.Optimizer = OPTIMIZERS[optim_type](params, lr=lr, **kwargs)
        return optimizer

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Step the schedulers; during a warm-up scale their rate linearly."""
        if self.scheduled_lrs is not None:
            self._set_lr(self.scheduled_lrs)
            self.scheduled_lrs = None
        if current_iter > 1:
            for scheduler in self.schedulers:
                scheduler.step()
        if current_iter < warmup_iter:
            # Schedulers go on from the rate that they find, so theirs is put back before their next step.
            self.scheduled_lrs = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
            self._set_lr([[lr * current_iter / warmup_iter for lr in lrs] for lrs in self.scheduled_lrs])

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: "lq", perhaps "gt", and the names of its files."""
        super().feed_data(data)
        self.files = list(data.get("gt_path") or data.get("lq_path") or [])

    def optimize_parameters(self, current_iter: int) -> None:
        """One step on the batch of `feed_data`; sets `output` and the log's numbers.

        Raises:
            UserError: too many bad steps in a row.
        """
        self.output, terms, norm = self.step.backward(self.net_g, self.optimizer_g, self.lq, self.gt, self._losses)
        numbers = {name: float(value) for name, value in self.reduce_loss_dict(terms).items()}
        total = sum(numbers.values())
        overflowed = self.step.scaler.is_enabled() and not norm.isfinite()  # fp16's scaler leaves such steps out itself
        problem = None if overflowed else self.guard.problem(numbers, total, float(norm))
        self.guard.note(problem, total, self.files)
        if problem is None:
            self.step.step(self.optimizer_g)
            if self.ema_decay > 0:
                self.model_ema(decay=self.ema_decay)
        else:
            self._leave_out(problem, current_iter)
        self.log_dict = {**numbers, "grad_norm": float(norm)}

    def reduce_loss_dict(self, loss_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean of each term over the processes, the same on all of them."""
        if not self.opt["dist"]:
            return loss_dict
        means = torch.stack(list(loss_dict.values()))
        torch.distributed.all_reduce(means)
        return dict(zip(loss_dict, means / self.opt["world_size"], strict=True))

    def model_ema(self, decay: float = 0.999) -> None:
        """Move the averaged network towards the trained one; its buffers are copied."""
        averaged, trained = self.net_g_ema, self.get_bare_model(self.net_g)
        with torch.no_grad():
            get_ema_multi_avg_fn(decay)(list(averaged.parameters()), list(trained.parameters()), 0)
            for target, source in zip(averaged.buffers(), trained.buffers(), strict=True):
                target.copy_(source)

    def test(self) -> None:
        """Set `output` to the result for `lq`, of the EMA network if there is one, run as `val:inference` says."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        with torch.no_grad():
            run = variants.apply(self.opt["val"].get("inference", "full"), net, self.opt["scale"])
            self.output = run(self.lq)
        net.train(was_training)

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Measure the network on a set; every process takes part.

        Args:
            dataloader: its dataset is measured.
            current_iter: the iteration; when testing, the experiment's name.
            tb_logger: TensorBoard's writer, or None.
            save_img: whether to save the outputs.
        """
        name = dataloader.dataset.opt["name"]

        def image_path(set_name: str, image: str) -> str:
            suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
            parts = [set_name, image] if self.is_train else [set_name]
            return os.path.join(self.opt["path"]["visualization"], *parts, f"{image}_{suffix}.png")

        def show(image: str, versions: list[Tensor]) -> None:
            tb_logger.add_image(f"{name}/{image}, LQ SR GT", strip(versions), current_iter)

        # Writers are on the first process only.
        results = validate(
            self, dataloader.dataset, image_path, save_img=save_img, show=show if tb_logger is not None else None
        )
        self.metric_results: dict[str, float] = results or {}
        if not results:
            get_root_logger().info(f"Validation {name}: no metrics, since the set has no GT or none are asked for")
            return
        self._initialize_best_metric_results(name)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        if self.opt["rank"] == 0:
            self._log_validation_metric_values(current_iter, name, tb_logger)

    def step_state(self) -> dict[str, Any]:
        """The scaler, the guard, and the schedule's rates during a warm-up."""
        return {
            "scaler": self.step.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "scheduled_lrs": self.scheduled_lrs,
        }

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Put back what `save_training_state` saved."""
        super().resume_training(resume_state)
        if "scaler" in resume_state:
            self.step.scaler.load_state_dict(resume_state["scaler"])
            self.guard.load_state_dict(resume_state["guard"])
            if not schedule.changed(resume_state.get("options"), self.options):
                self.scheduled_lrs = resume_state["scheduled_lrs"]

    def _losses(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        if self.cri_pix:
            terms["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, gt)
            terms |= {name: term for name, term in (("l_percep", perceptual), ("l_style", style)) if term is not None}
        return terms

    def _leave_out(self, problem: str, current_iter: int) -> None:
        logger = get_root_logger()
        logger.warning(f"Iteration {current_iter} is left out: {problem}, in a batch of {', '.join(self.files)}")
        if self.guard.action == "rollback":
            logger.warning(self.roll_back())

    def _log_validation_metric_values(self, current_iter: int | str, dataset_name: str, tb_logger: Any) -> None:
        """As BasicSR's; a test has no best iteration to tell of."""
        if self.is_train:
            super()._log_validation_metric_values(current_iter, dataset_name, tb_logger)
            return
        lines = [
            f"Validation {dataset_name}",
            *(f"\t # {key}: {value:.4f}" for key, value in self.metric_results.items()),
        ]
        get_root_logger().info("\n".join(lines) + "\n")
