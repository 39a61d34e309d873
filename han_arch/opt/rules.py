"""Check options against each other: each rule names the options that it reads and returns what is wrong.

A rule is skipped if an option that it reads is missing, `~`, or already a problem by itself.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from han_arch import errors
from han_arch.opt.check import Problem, as_mapping
from han_arch.opt.kinds import entries
from han_arch.opt.known import CLOSED_MODELS, LOSSES
from han_arch.speed import winograd

Find: TypeAlias = Callable[..., str | None]
# Each rule: the options that it reads, its function, whether it only warns.
RULES: list[tuple[tuple[str, ...], Find, bool]] = []


def cross_check(opt: dict[str, Any], known_problems: list[Problem]) -> list[Problem]:
    """Find options from `normalise` that do not fit each other; options in `known_problems` are skipped."""
    bad = {problem.where for problem in known_problems if not problem.warning}
    return [problem for rule in RULES for problem in _apply(*rule, opt, bad)]


def _rule(*reads: str, warning: bool = False) -> Callable[[Find], Find]:
    """Register a function as a rule: it maps values of options to a description of what is wrong, or to None.

    Args:
        reads: the options that it reads; a problem is reported at the first. `*` matches every name, the same one in
            all of them, and the function gets the name first. An option with `?` at the end may be missing; its value
            is None then.
        warning: the run can start.
    """

    def add(find: Find) -> Find:
        RULES.append((reads, find, warning))
        return find

    return add


def _apply(reads: tuple[str, ...], find: Find, warning: bool, opt: dict[str, Any], bad: set[str]) -> Iterator[Problem]:
    starred = next((read for read in reads if "*" in read), None)
    for name in [None] if starred is None else as_mapping(_value(opt, starred.partition(":*")[0])):
        paths = [read.replace("*", str(name)) for read in reads]
        values = [_value(opt, path.removesuffix("?")) for path in paths]
        usable = all(
            path.removesuffix("?") not in bad and (path.endswith("?") or value is not None)
            for path, value in zip(paths, values, strict=True)
        )
        text = find(*([] if starred is None else [name]), *values) if usable else None
        if text is not None:
            yield Problem(paths[0].removesuffix("?"), f" {text}", warning)


def _value(opt: Any, path: str) -> Any:
    for key in path.split(":"):
        opt = opt.get(key) if isinstance(opt, dict) else None
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
    why = "BasicSR's CPU prefetcher hangs at an unreadable image"
    return f"must not be cpu: {why}; use ~ and more workers" if mode == "cpu" else None


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
    needing = [key for key, one in metrics.items() if isinstance(one, dict) and one.get("type") != "calculate_niqe"]
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
def _winograd(wanted: bool, gpus: int | None, precision: str | None, compiled: Any, num_feat: Any) -> str | None:
    channels = num_feat if isinstance(num_feat, int) else 0
    why = winograd.obstacle("a GPU" if gpus else "cpu", precision or "fp32", bool(compiled), channels)
    return f"has no effect: it {why}" if wanted and why else None


@_rule("winograd")
def _winograd_compiler(wanted: bool) -> str | None:
    # The kernels are compiled at their first use. A check only looks for the compiler.
    why = winograd.no_compiler()
    return f"must be false here: {why}" if wanted and why else None


# Validation and log


@_rule("logger:keep_best", "val:metrics?")
def _best_metric(best: str, metrics: dict[str, Any] | None) -> str | None:
    names = metrics or {}
    return None if best in names else f"must be one of val:metrics; got {best!r}; {errors.hint(best, names)}"


@_rule("logger:wandb:project", "logger:use_tb_logger")
def _wandb(project: str, tensorboard: bool) -> str | None:
    return None if tensorboard else "needs use_tb_logger: true: wandb copies from TensorBoard"
