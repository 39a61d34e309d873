"""Checks of options against each other: each rule names the options that it reads and says what is wrong with them.

A rule is left out where an option that it reads is missing, `~`, or a problem by itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from han_arch import errors
from han_arch.errors import UserError
from han_arch.opt.check import Problem
from han_arch.opt.known import CLOSED_MODELS
from han_arch.speed.winograd.convolution import CHANNELS
from han_arch.speed.winograd.native import library

_MISSING = object()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        reads: the options it reads; the first is where the problem lies. `*` stands for each name in turn, the same in
            all; with a `?` at its end an option may be missing, and is None then.
        finds: their values (after the name that `*` stands for, if any) -> what is wrong, or None.
        warning: a run may go on.
    """

    reads: tuple[str, ...]
    finds: Callable[..., str | None]
    warning: bool


RULES: list[Rule] = []


def cross_check(opt: dict[str, Any], known_problems: list[Problem]) -> list[Problem]:
    """Problems of options that do not fit each other.

    Args:
        opt: the option file's content, with `is_train`, and num_gpu a number.
        known_problems: what `check_options` found.
    """
    bad = {problem.where for problem in known_problems if not problem.warning}
    return [problem for rule in RULES for problem in _apply(rule, opt, bad)]


def _rule(*reads: str, warning: bool = False) -> Callable[[Callable[..., str | None]], Callable[..., str | None]]:
    def add(finds: Callable[..., str | None]) -> Callable[..., str | None]:
        RULES.append(Rule(reads, finds, warning))
        return finds

    return add


def _apply(rule: Rule, opt: dict[str, Any], bad: set[str]) -> Iterator[Problem]:
    starred = next((read for read in rule.reads if "*" in read), None)
    names: list[Any] = [None]
    if starred is not None:
        group = _value(opt, starred.partition(":*")[0])
        names = list(group) if isinstance(group, dict) else []
    for name in names:
        paths = [read.replace("*", str(name)) for read in rule.reads]
        values = [_value(opt, path.removesuffix("?")) for path in paths]
        usable = [
            (value is not _MISSING and value is not None) or path.endswith("?")
            for path, value in zip(paths, values, strict=True)
        ]
        if not all(usable) or any(path.removesuffix("?") in bad for path in paths):
            continue
        values = [None if value is _MISSING else value for value in values]
        text = rule.finds(*([] if starred is None else [name]), *values)
        if text is not None:
            yield Problem(paths[0].removesuffix("?"), f" {text}", rule.warning)


def _value(opt: Any, path: str) -> Any:
    for key in path.split(":"):
        if not isinstance(opt, dict) or key not in opt:
            return _MISSING
        opt = opt[key]
    return opt


# Scale and sizes


@_rule("network_g:upscale", "scale")
def _network_scale(upscale: Any, scale: int) -> str | None:
    return None if upscale == scale else f"must be the scale, {scale}; got {upscale!r}"


@_rule("val:metrics:*:crop_border", "scale", warning=True)
def _border(name: str, border: int, scale: int) -> str | None:
    # No error: EDSR's own validation, for one, crops more. The papers' tables all crop the scale.
    return None if border == scale else f"is {border}; the papers' tables crop the scale, {scale}: values will differ"


@_rule("datasets:*:gt_size", "scale")
def _crop_size(name: str, size: int, scale: int) -> str | None:
    lower = size // scale * scale
    legal = f"{lower} or {lower + scale}" if lower else str(scale)
    return None if size % scale == 0 else f"must be a multiple of the scale, {scale}, such as {legal}; got {size}"


@_rule("datasets:*:type", "scale?")
def _needs_scale(name: str, kind: str, scale: int | None) -> str | None:
    return "PairedImageDataset needs scale at the top level" if kind == "PairedImageDataset" and not scale else None


# Data


@_rule("datasets:*:prefetch_mode")
def _cpu_prefetch(name: str, mode: str) -> str | None:
    if mode != "cpu":
        return None
    return "must not be cpu: BasicSR's CPU prefetcher hangs for ever on an unreadable image; use ~ and more workers"


@_rule("datasets:*:prefetch_mode", "num_gpu", "datasets:*:pin_memory?")
def _cuda_prefetch(name: str, mode: str, num_gpu: int, pinned: bool | None) -> str | None:
    if mode != "cuda":
        return None
    if num_gpu == 0:
        return "cuda needs a GPU, and this run has none; use ~"
    return None if pinned else "cuda needs pin_memory: true beside it"


@_rule("datasets:*:persistent_workers", "datasets:*:num_worker_per_gpu?")
def _persistent(name: str, wanted: bool, workers: int | None) -> str | None:
    if not wanted or (name == "train" and workers):
        return None
    return "needs num_worker_per_gpu above 0" if name == "train" else "must be false: only training has data workers"


@_rule("datasets:*:use_shuffle", warning=True)
def _shuffle(name: str, wanted: bool) -> str | None:
    return None if wanted else "has no effect: BasicSR shuffles training data always"


@_rule("datasets", "is_train")
def _phases(datasets: dict[str, Any], is_train: bool) -> str | None:
    phases = ("train", "val") if is_train else ("val", "test")
    wrong = [name for name in datasets if str(name).split("_")[0] not in phases]
    wanted = "train, val, val_1, val_2, ..." if is_train else "test_1, test_2, ..."
    return f"must be named {wanted}; got {', '.join(map(str, wrong))}" if wrong else None


@_rule("datasets")
def _set_names(datasets: dict[str, Any]) -> str | None:
    names = [one.get("name") for key, one in datasets.items() if key != "train" and isinstance(one, dict)]
    twice = sorted({str(name) for name in names if name is not None and names.count(name) > 1})
    return f"must have different names: two are {', '.join(twice)}, so their images and results mix" if twice else None


@_rule("datasets:*:type", "val:metrics")
def _ground_truth(name: str, kind: str, metrics: dict[str, Any]) -> str | None:
    if kind != "SingleImageDataset":
        return None
    needing = [key for key, metric in metrics.items() if isinstance(metric, dict) and metric.get("type") !=
               "calculate_niqe"]  # fmt: skip
    return f"SingleImageDataset has no GT, which val:metrics {', '.join(needing)} compare with" if needing else None


# Learning rate and training


@_rule("train:scheduler:periods", "train:total_iter")
def _cosine_covers(periods: list[int], total: int) -> str | None:
    if sum(periods) >= total:
        return None
    return f"must add up to total_iter, {total}, or more: BasicSR stops with an error after them; got {sum(periods)}"


@_rule("train:scheduler:periods", "train:scheduler:restart_weights?")
def _cosine_weights(periods: list[int], weights: list[float] | None) -> str | None:
    weights = weights or [1]
    return None if len(periods) == len(weights) else f"has {len(periods)} entries, restart_weights {len(weights)}"


@_rule("train:scheduler:restarts", "train:scheduler:restart_weights?")
def _step_weights(restarts: list[int], weights: list[float] | None) -> str | None:
    weights = weights or [1]
    return None if len(restarts) == len(weights) else f"has {len(restarts)} entries, restart_weights {len(weights)}"


@_rule("train:scheduler:milestones", "train:warmup_iter", "model_type")
def _milestones_after_warmup(milestones: list[int], warmup: int, model: str) -> str | None:
    early = [milestone for milestone in milestones if milestone <= warmup]
    if model == "HANModel" or not early:
        return None
    return f"must come after the warm-up, which ends at {warmup}: {model} loses the others; got {early}"


@_rule("train:scheduler:milestones", "train:total_iter", warning=True)
def _milestones_reached(milestones: list[int], total: int) -> str | None:
    return None if min(milestones) < total else f"are all at or after the end, total_iter {total}: nothing ever falls"


@_rule("train:warmup_iter", "train:total_iter", warning=True)
def _warmup_ends(warmup: int, total: int) -> str | None:
    return None if warmup < total else f"is {warmup}, not before total_iter, {total}: the learning rate only rises"


@_rule("train:optim_g:type", "model_type")
def _optimizer(kind: str, model: str) -> str | None:
    if kind == "Adam" or model == "HANModel" or model not in CLOSED_MODELS:
        return None
    return f"must be Adam, the one that {model} has; got {kind}; HANModel has AdamW too"


@_rule("train", "model_type", "train:pixel_opt?", "train:perceptual_opt?")
def _some_loss(train: dict[str, Any], model: str, pixel: Any, perceptual: Any) -> str | None:
    if model not in ("SRModel", "SwinIRModel", "HANModel") or pixel or perceptual:
        return None
    return "needs a loss: pixel_opt or perceptual_opt"


@_rule("winograd", "num_gpu", "train:precision?", "train:compile?", warning=True)
def _winograd(wanted: bool, num_gpu: int, precision: str | None, compiled: bool | None) -> str | None:
    if not wanted:
        return None
    if num_gpu:
        return "has no effect on a GPU"
    if precision not in (None, "fp32"):
        return f"has no effect in a training step of train:precision {precision}, only in fp32"
    return "has no effect in blocks that train:compile compiles" if compiled else None


@_rule("winograd", "network_g:num_feat", warning=True)
def _winograd_channels(wanted: bool, num_feat: int) -> str | None:
    fits = not wanted or num_feat % CHANNELS == 0
    return None if fits else f"has no effect: it takes channels in sixteens; network_g:num_feat is {num_feat}"


@_rule("winograd")
def _winograd_compiler(wanted: bool) -> str | None:
    if wanted:
        try:
            library()
        except UserError as error:
            return f"must be false here. {error}"
    return None


# Validation and log


@_rule("logger:keep_best", "val:metrics?")
def _best_metric(best: str, metrics: dict[str, Any] | None) -> str | None:
    names = metrics or {}
    return None if best in names else f"must be one of val:metrics; got {best!r}; {errors.hint(best, names)}"


@_rule("logger:wandb:project", "logger:use_tb_logger")
def _wandb(project: str, tensorboard: bool) -> str | None:
    return None if tensorboard else "needs use_tb_logger: true: wandb copies what TensorBoard gets"
