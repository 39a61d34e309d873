"""Check combinations of options. Each rule reads a few options and describes what is wrong with them.

The rules are sorted by topic: sizes, data, training, validation and log.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from han_arch import errors
from han_arch.names import check_name
from han_arch.opt.check import Problem, as_mapping
from han_arch.opt.kinds import entries
from han_arch.opt.known import CLOSED_MODELS, LOSSES
from han_arch.speed import winograd

Find: TypeAlias = Callable[..., str | None]
# For each rule: the paths of the options that it reads, its function, and whether its problem is only a warning.
RULES: list[tuple[tuple[str, ...], Find, bool]] = []


def cross_check(opt: dict[str, Any], known_problems: list[Problem]) -> list[Problem]:
    """Find options that contradict each other. A rule is skipped if one of its options already has an error."""
    bad = {problem.where for problem in known_problems if not problem.warning}
    return [problem for rule in RULES for problem in _apply(*rule, opt, bad)]


def _rule(*reads: str, warning: bool = False) -> Callable[[Find], Find]:
    """Register a function as a rule. The function gets option values. It returns a description of the problem, or None.

    Args:
        reads: paths of the options that the rule reads. Error messages start with the first path. If an option is
            missing or `~`, the rule is skipped; but if the path of this option ends with `?`, the function is called
            with None as the value. If a path contains `*`, the function is called once for each name in the section,
            with the name as first argument.
        warning: True if the run can start in spite of the problem.
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
        if usable and (text := find(*([] if starred is None else [name]), *values)):
            yield Problem(paths[0].removesuffix("?"), f" {text}", warning)


def _value(opt: Any, path: str) -> Any:
    for key in path.split(":"):
        opt = opt.get(key) if isinstance(opt, dict) else None
    return opt


@_rule("network_g:upscale", "scale")
def _network_scale(upscale: Any, scale: int) -> str | None:
    return None if upscale == scale else f"must be equal to scale ({scale}); got {upscale!r}"


@_rule("val:metrics:*:crop_border", "scale", warning=True)
def _border(name: str, border: int, scale: int) -> str | None:
    # This is only a warning, because the authors of EDSR crop more pixels than the scale when they validate.
    return None if border == scale else f"is {border}, but papers use scale ({scale}), so your scores will differ"


@_rule("datasets:*:gt_size", "scale")
def _crop_size(name: str, size: int, scale: int) -> str | None:
    lower = size // scale * scale
    legal = f"{lower} or {lower + scale}" if lower else str(scale)
    return None if size % scale == 0 else f"must be a multiple of scale ({scale}), such as {legal}; got {size}"


@_rule("datasets:*:type", "scale?")
def _needs_scale(name: str, kind: str, scale: int | None) -> str | None:
    missing = kind == "PairedImageDataset" and not scale
    return "is PairedImageDataset, which needs the option scale at the top level of the file" if missing else None


@_rule("datasets:*:prefetch_mode")
def _cpu_prefetch(name: str, mode: str) -> str | None:
    why = "BasicSR's CPU prefetcher hangs if it cannot read an image"
    return f"must not be cpu, because {why}; set it to ~ and use more data workers" if mode == "cpu" else None


@_rule("datasets:*:prefetch_mode", "num_gpu", "datasets:*:pin_memory?")
def _cuda_prefetch(name: str, mode: str, num_gpu: int, pinned: bool | None) -> str | None:
    if mode != "cuda":
        return None
    if num_gpu == 0:
        return "is cuda, but this run does not use a GPU; set prefetch_mode to ~"
    return None if pinned else "is cuda, which needs pin_memory: true in the same section"


@_rule("datasets:*:persistent_workers", "datasets:*:num_worker_per_gpu?")
def _persistent(name: str, wanted: bool, workers: int | None) -> str | None:
    if name == "train":
        return "needs num_worker_per_gpu above 0" if wanted and not workers else None
    return "must be false, because only the training set has data workers" if wanted else None


@_rule("datasets:*:use_shuffle", warning=True)
def _shuffle(name: str, wanted: bool) -> str | None:
    return None if wanted else "has no effect, because training data are always shuffled"


@_rule("datasets:*:dataset_enlarge_ratio", warning=True)
def _enlarge_ratio(name: str, ratio: int) -> str | None:
    why = "an epoch is always one pass over the images, and the next epoch starts without a pause"
    return None if ratio == 1 else f"has no effect, because {why}"


@_rule("datasets", "is_train")
def _phases(datasets: dict[str, Any], is_train: bool) -> str | None:
    phases = ("train", "val") if is_train else ("val", "test")
    wrong = [name for name in datasets if str(name).split("_")[0] not in phases]
    wanted = "train, val, val_1, val_2, ..." if is_train else "test_1, test_2, ..."
    return f"must have only the keys {wanted}; got {', '.join(map(str, wrong))}" if wrong else None


@_rule("name")
def _run_name(name: str) -> str | None:
    return _name_fault(name)


@_rule("datasets:*:name")
def _set_name(key: str, name: str) -> str | None:
    return _name_fault(name)


@_rule("val:suffix")
def _suffix(suffix: str) -> str | None:
    return _name_fault(suffix) if suffix else None


def _name_fault(name: str) -> str | None:
    try:
        check_name("", name)
    except errors.UserError as error:
        return str(error).strip()
    return None


@_rule("datasets")
def _set_names(datasets: dict[str, Any]) -> str | None:
    names = [one.get("name") for key, one in datasets.items() if key != "train" and isinstance(one, dict)]
    twice = sorted({str(name) for name in names if name is not None and names.count(name) > 1})
    why = "the images and scores of data sets with the same name would be mixed"
    return f"must have different names, because {why}; used twice: {', '.join(twice)}" if twice else None


@_rule("datasets:*:type", "val:metrics")
def _ground_truth(name: str, kind: str, metrics: dict[str, Any]) -> str | None:
    if kind != "SingleImageDataset":
        return None
    needing = [key for key, one in metrics.items() if isinstance(one, dict) and one.get("type") != "calculate_niqe"]
    why = f"has no GT images; these metrics in val:metrics need GT images: {', '.join(needing)}"
    return f"is SingleImageDataset, which {why}" if needing else None


@_rule("train:scheduler:periods", "train:total_iter")
def _cosine_covers(periods: list[int], total: int) -> str | None:
    why = f"because BasicSR's scheduler fails after the last period; the sum is {sum(periods)}"
    return None if sum(periods) >= total else f"must have a sum of at least total_iter ({total}), {why}"


@_rule("train:scheduler:periods", "train:scheduler:restart_weights?")
@_rule("train:scheduler:restarts", "train:scheduler:restart_weights?")
def _restart_weights(starts: list[int], weights: list[float] | None) -> str | None:
    values, factors = len(starts), len(weights or [1])
    text = f"has {values} values, but restart_weights has {factors}; both must have the same length"
    return None if values == factors else text


@_rule("train:scheduler:milestones", "train:warmup_iter", "model_type")
def _milestones_after_warmup(milestones: list[int], warmup: int, model: str) -> str | None:
    early = [milestone for milestone in milestones if milestone <= warmup]
    if model == "HANModel" or not early:
        return None
    return f"must all be above warmup_iter ({warmup}), because {model} ignores milestones in the warm-up; got {early}"


@_rule("train:scheduler:milestones", "train:total_iter", warning=True)
def _milestones_reached(milestones: list[int], total: int) -> str | None:
    return None if min(milestones) < total else f"are all >= total_iter ({total}), so the learning rate never falls"


@_rule("train:warmup_iter", "train:total_iter", warning=True)
def _warmup_ends(warmup: int, total: int) -> str | None:
    return None if warmup < total else f"is {warmup} (total_iter: {total}), so the learning rate never stops rising"


@_rule("train:optim_g:type", "model_type")
def _optimizer(kind: str, model: str) -> str | None:
    fits = kind == "Adam" or model == "HANModel" or model not in CLOSED_MODELS
    text = f"must be Adam for model_type {model}; got {kind}; only HANModel accepts all optimizers of PyTorch"
    return None if fits else text


@_rule("train:*:type", "model_type")
def _of_pytorch(name: str, kind: str, model: str) -> str | None:
    if name.startswith("optim_") or model == "HANModel" or model not in CLOSED_MODELS:
        return None
    entry = entries("scheduler" if name == "scheduler" else "loss").get(kind)
    of_pytorch = entry is not None and entry.__module__.startswith("torch.")
    text = f"is PyTorch's {kind}, which works only with model_type HANModel; got model_type {model}"
    return text if of_pytorch else None


@_rule("train:*:type", warning=True)
def _loss_name(name: str, kind: str) -> str | None:
    if not name.endswith("_opt") or name in LOSSES:
        return None
    near = errors.nearest(name, LOSSES, likeness=0.75)
    return f"is {kind}, so {name} is an additional loss; did you mean {near}?" if near else None


@_rule("train", "model_type")
def _some_loss(train: dict[str, Any], model: str) -> str | None:
    if model not in ("SRModel", "SwinIRModel", "HANModel"):
        return None
    found = any(str(name).endswith("_opt") and value for name, value in train.items())
    return None if found else "must contain a loss: pixel_opt or perceptual_opt"


@_rule("winograd", "num_gpu?", "train:precision?", "train:compile?", "network_g:num_feat?", warning=True)
def _winograd(wanted: bool, gpus: int | None, precision: str | None, compiled: Any, num_feat: Any) -> str | None:
    channels = num_feat if isinstance(num_feat, int) else 0
    why = winograd.obstacle("a GPU" if gpus else "cpu", precision or "fp32", bool(compiled), channels)
    return f"has no effect, because Winograd's algorithm {why}" if wanted and why else None


@_rule("winograd")
def _winograd_compiler(wanted: bool) -> str | None:
    # The check looks for a compiler but does not start it, because the kernels are compiled at their first use.
    why = winograd.no_compiler()
    return f"must be false on this machine: {why}" if wanted and why else None


@_rule("logger:keep_best", "val:metrics?")
def _best_metric(best: str, metrics: dict[str, Any] | None) -> str | None:
    names = metrics or {}
    text = f"must be the name of a metric in val:metrics; got {best!r}; {errors.hint(best, names)}"
    return None if best in names else text


@_rule("logger:wandb:project", "logger:use_tb_logger")
def _wandb(project: str, tensorboard: bool) -> str | None:
    return None if tensorboard else "needs use_tb_logger: true, because wandb copies the values from TensorBoard"
