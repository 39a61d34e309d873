"""Check options against each other: each rule names the options that it reads and returns what is wrong.

A rule is skipped if an option that it reads is missing, `~`, or already a problem by itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from han_arch import errors
from han_arch.opt.check import Problem
from han_arch.opt.kinds import entries
from han_arch.opt.known import CLOSED_MODELS, LOSSES
from han_arch.speed import winograd

_MISSING = object()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        reads: the options that it reads; a problem is reported at the first. `*` matches every name, the same one in
            all of them. An option with `?` at the end may be missing; its value is None then.
        find: maps the name that `*` matches, if any, and the options' values to what is wrong, or None.
        warning: the run can start.
    """

    reads: tuple[str, ...]
    find: Callable[..., str | None]
    warning: bool


RULES: list[Rule] = []


def cross_check(opt: dict[str, Any], known_problems: list[Problem]) -> list[Problem]:
    """Find options that do not fit each other.

    Args:
        opt: options of `normalise`; they are not changed.
        known_problems: the problems of `check_options`.
    """
    bad = {problem.where for problem in known_problems if not problem.warning}
    return [problem for rule in RULES for problem in _apply(rule, opt, bad)]


def _rule(*reads: str, warning: bool = False) -> Callable[[Callable[..., str | None]], Callable[..., str | None]]:
    def add(find: Callable[..., str | None]) -> Callable[..., str | None]:
        RULES.append(Rule(reads, find, warning))
        return find

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
        usable = all(
            path.endswith("?") or value not in (_MISSING, None) for path, value in zip(paths, values, strict=True)
        )
        if not usable or any(path.removesuffix("?") in bad for path in paths):
            continue
        values = [None if value is _MISSING else value for value in values]
        text = rule.find(*([] if starred is None else [name]), *values)
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
    # A warning: EDSR's own validation crops more. The papers' tables crop the scale.
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
    return "must not be cpu: BasicSR's CPU prefetcher hangs at an unreadable image; use ~ and more workers"


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
    return None if wanted else "has no effect: training data are always shuffled"


@_rule("datasets:*:dataset_enlarge_ratio", warning=True)
def _enlarge_ratio(name: str, ratio: int) -> str | None:
    return None if ratio == 1 else "has no effect: an epoch is one pass over the images, without a pause at its end"


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
    return f"must have different names, else their images and results mix; twice: {', '.join(twice)}" if twice else None


@_rule("datasets:*:type", "val:metrics")
def _ground_truth(name: str, kind: str, metrics: dict[str, Any]) -> str | None:
    if kind != "SingleImageDataset":
        return None
    needing = [key for key, metric in metrics.items() if isinstance(metric, dict) and metric.get("type") !=
               "calculate_niqe"]  # fmt: skip
    return f"SingleImageDataset has no GT; val:metrics {', '.join(needing)} need it" if needing else None


# Learning rate and training


@_rule("train:scheduler:periods", "train:total_iter")
def _cosine_covers(periods: list[int], total: int) -> str | None:
    if sum(periods) >= total:
        return None
    return f"must add up to total_iter, {total}, or more: BasicSR's scheduler fails after them; got {sum(periods)}"


@_rule("train:scheduler:periods", "train:scheduler:restart_weights?")
@_rule("train:scheduler:restarts", "train:scheduler:restart_weights?")
def _restart_weights(starts: list[int], weights: list[float] | None) -> str | None:
    weights = weights or [1]
    return None if len(starts) == len(weights) else f"has {len(starts)} entries, restart_weights {len(weights)}"


@_rule("train:scheduler:milestones", "train:warmup_iter", "model_type")
def _milestones_after_warmup(milestones: list[int], warmup: int, model: str) -> str | None:
    early = [milestone for milestone in milestones if milestone <= warmup]
    if model == "HANModel" or not early:
        return None
    return f"must come after the warm-up, which ends at {warmup}: {model} skips earlier ones; got {early}"


@_rule("train:scheduler:milestones", "train:total_iter", warning=True)
def _milestones_reached(milestones: list[int], total: int) -> str | None:
    return None if min(milestones) < total else f"are not before total_iter, {total}: the learning rate never falls"


@_rule("train:warmup_iter", "train:total_iter", warning=True)
def _warmup_ends(warmup: int, total: int) -> str | None:
    return None if warmup < total else f"is {warmup}; from total_iter, {total}, on the learning rate only rises"


@_rule("train:optim_g:type", "model_type")
def _optimizer(kind: str, model: str) -> str | None:
    fits = kind == "Adam" or model == "HANModel" or model not in CLOSED_MODELS
    return None if fits else f"must be Adam for {model}; got {kind}; HANModel takes every optimizer of PyTorch"


@_rule("train:*:type", "model_type")
def _of_pytorch(name: str, kind: str, model: str) -> str | None:
    if name.startswith("optim_") or model == "HANModel" or model not in CLOSED_MODELS:
        return None
    entry = entries("scheduler" if name == "scheduler" else "loss").get(kind)
    of_pytorch = entry is not None and entry.__module__.startswith("torch.")
    return f"{kind} of PyTorch works with model_type HANModel only; got {model}" if of_pytorch else None


@_rule("train:*:type", warning=True)
def _loss_name(name: str, kind: str) -> str | None:
    if not name.endswith("_opt") or name in LOSSES:
        return None
    near = errors.nearest(name, LOSSES, likeness=0.75)
    return f"{kind} is one more loss; did you mean {near}?" if near else None


@_rule("train", "model_type")
def _some_loss(train: dict[str, Any], model: str) -> str | None:
    if model not in ("SRModel", "SwinIRModel", "HANModel"):
        return None
    found = any(str(name).endswith("_opt") and value for name, value in train.items())
    return None if found else "needs a loss: pixel_opt or perceptual_opt"


@_rule("winograd", "num_gpu?", "train:precision?", "train:compile?", "network_g:num_feat?", warning=True)
def _winograd(wanted: bool, gpus: int | None, precision: str | None, compiled: Any, num_feat: int | None) -> str | None:
    why = winograd.obstacle("a GPU" if gpus else "cpu", precision or "fp32", bool(compiled), num_feat or 0)
    return f"has no effect: it {why}" if wanted and why else None


@_rule("winograd")
def _winograd_compiler(wanted: bool) -> str | None:
    # The kernels are compiled at their first use. A check only looks for the compiler.
    why = winograd.no_compiler() if wanted else None
    return f"must be false here: {why}" if why else None


# Validation and log


@_rule("logger:keep_best", "val:metrics?")
def _best_metric(best: str, metrics: dict[str, Any] | None) -> str | None:
    names = metrics or {}
    return None if best in names else f"must be one of val:metrics; got {best!r}; {errors.hint(best, names)}"


@_rule("logger:wandb:project", "logger:use_tb_logger")
def _wandb(project: str, tensorboard: bool) -> str | None:
    return None if tensorboard else "needs use_tb_logger: true: wandb copies from TensorBoard"
