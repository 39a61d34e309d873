"""Check the options of a file one by one, the files that they name, and whether the network can be built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from han_arch import errors
from han_arch.opt.kinds import ANYTHING, Node, Section, entries, options_of
from han_arch.opt.known import CLOSED_MODELS, MOVED, OPTIONS
from han_arch.zoo import entry

_ROOTS = ("dataroot_gt", "dataroot_lq")


@dataclass(frozen=True)
class Problem:
    """An error in the options, or a warning."""

    where: str  # key:key of the option; empty for the whole file
    text: str  # what was wanted and what was found; `where` comes before it
    warning: bool = False  # the run can start

    def __str__(self) -> str:
        return f"{self.where or 'the option file'}{self.text}"


@dataclass(frozen=True)
class _CheckedRun:
    """The run that options are checked for."""

    command: str  # train or test
    model: Any  # its name in the options
    bases: tuple[str, ...]  # names of the model's class and its bases; empty if another package may read more options
    closed: bool  # an unknown option of the section has no effect; else another package may read it


def check_options(opt: dict[str, Any], *, is_train: bool) -> list[Problem]:
    """Find options that are missing, unknown, of the wrong type, out of range, or name nothing that is registered.

    Args:
        opt: the option file's content, with the names and whole numbers of `normalise`.
        is_train: whether `basicsr train` reads them; else `basicsr test`.
    """
    models: Mapping[str, Any] = entries("model")
    model: Any = opt.get("model_type")
    closed = model in CLOSED_MODELS
    bases = tuple(cls.__name__ for cls in models[model].__mro__) if closed and model in models else ()
    run = _CheckedRun("train" if is_train else "test", model, bases, closed)
    return [*_check_section(opt, OPTIONS, "", run), *_check_registered("model_type", model, models)]


def try_network(network: Any) -> list[Problem]:
    """Build the network of the section `network_g` to see if its constructor accepts the options.

    It is built on the meta device, without memory for weights. If its constructor reads values of tensors, which the
    meta device does not have, it is built on the CPU. A section that is no mapping is a problem of `check_options`.
    """
    if not isinstance(network, dict):
        return []
    arguments = {key: value for key, value in network.items() if key != "type"}
    for device in ("meta", "cpu"):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                entries("network")[network["type"]](**arguments)
            break
        except Exception as error:  # constructors of other packages may raise anything
            if device == "cpu" or "meta" not in str(error):
                return [Problem("network_g", f": {network['type']} cannot be built: {error}")]
    squeeze, features = arguments.get("squeeze_factor"), arguments.get("num_feat")
    if isinstance(squeeze, int) and isinstance(features, int) and squeeze > features:
        return [Problem("network_g:squeeze_factor", f" must be at most num_feat, {features}; got {squeeze}")]
    return []


def check_files(opt: dict[str, Any]) -> list[Problem]:
    """Find named files that are missing, and data sets without images or with unequal numbers of GT and LQ images."""
    problems: list[Problem] = []
    for name, dataset in as_mapping(opt.get("datasets")).items():
        if isinstance(dataset, dict):
            problems += _check_dataset(f"datasets:{name}", dataset)
    for key, value in as_mapping(opt.get("path")).items():
        names_file = str(key).startswith("pretrain_network") or key == "resume_state"
        if isinstance(value, str) and names_file and not (key == "pretrain_network_g" and entry.is_name(value)):
            problems += _missing(f"path:{key}", value)
    return problems


def addable(opt: dict[str, Any], keys: list[str]) -> dict[str, bool]:
    """Return the options that a section may hold, each with whether it is a section; `*` is any other name.

    Args:
        opt: the option file's content.
        keys: the keys that lead to the section; empty: the top level.
    """
    node, content = OPTIONS, opt
    for key in keys:
        child = options_of(node, content).keys.get(key) or node.other(key)
        if not isinstance(child, Section):
            return {}
        node, content = child, as_mapping(content.get(key))
    found = {**options_of(node, content).keys, **({} if node.others is None else {"*": node.others})}
    return {name: isinstance(child, Section) for name, child in found.items()}


def _check_section(content: dict[str, Any], node: Section, where: str, run: _CheckedRun) -> Iterator[Problem]:
    options = options_of(node, content)
    keys = options.keys
    if node.registry:
        run = replace(run, closed=options.complete)
        yield from _check_registered(f"{where}:type", content.get("type"), entries(node.registry))
    by_table = [key for key, child in keys.items() if child.need in ("always", run.command)]
    required = dict.fromkeys([*options.required, *by_table])
    for key in required:
        # `~` is as bad as no entry, unless it is allowed.
        if content.get(key) is None and not (key in content and keys[key].null):
            yield Problem(where, f" lacks {key}: {keys[key].describe()}")
    for key, value in content.items():
        child = keys.get(key) or node.other(key)
        if child is not None:
            if value is not None or key not in required:
                yield from _check_option(value, child, f"{where}:{key}".removeprefix(":"), run)
        elif run.closed or errors.nearest(key, keys, likeness=0.75):
            yield _unknown(key, keys, where, warning=not run.closed)


def _check_option(value: Any, node: Node, where: str, run: _CheckedRun) -> Iterator[Problem]:
    if node.only and run.bases and node.only not in run.bases:
        yield Problem(where, f" works with model_type {node.only} only; got {run.model}")
    elif not node.accepts(value):
        if node is not ANYTHING:
            yield Problem(where, f" must be {node.describe()}; got {value!r}")
    elif isinstance(node, Section) and value is not None:
        yield from _check_section(value, node, where, run)


def _check_registered(where: str, name: Any, known: Any) -> Iterator[Problem]:
    if isinstance(name, str) and name not in known:
        yield Problem(where, f": nothing named {name!r} is registered; {errors.hint(name, known)}")


def _unknown(key: Any, known: Any, where: str, *, warning: bool) -> Problem:
    if not where and key in MOVED:
        return Problem(key, f" is no option of the top level; it is {MOVED[key]}", warning)
    reader = " (another package may read it)" if warning else ""
    return Problem(f"{where}:{key}".removeprefix(":"), f": no such option{reader}; {errors.hint(key, known)}", warning)


def _check_dataset(where: str, dataset: dict[str, Any]) -> Iterator[Problem]:
    named = [key for key in (*_ROOTS, "meta_info_file") if isinstance(dataset.get(key), str)]
    missing = [problem for key in named for problem in _missing(f"{where}:{key}", dataset[key])]
    yield from missing
    wanted = {"PairedImageDataset": _ROOTS, "SingleImageDataset": _ROOTS[1:]}.get(str(dataset.get("type")))
    if wanted is None:
        return
    yield from (Problem(where, f" lacks {key}: a folder, or an .lmdb") for key in wanted if dataset.get(key) is None)
    if missing or not set(wanted) <= set(named):
        return
    counts = {}
    for key in wanted:
        try:
            counts[key] = _count(Path(dataset[key]).expanduser(), dataset)
        except (OSError, UnicodeDecodeError) as error:
            yield Problem(f"{where}:{key}", f": {error}")
            continue
        if counts[key] == 0:
            yield Problem(f"{where}:{key}", f": {dataset[key]!r} has no images; subfolders are not read")
    if len(set(counts.values())) > 1:
        gt, lq = counts.values()
        yield Problem(where, f" has {gt} GT and {lq} LQ images; the numbers must be equal")


def _count(root: Path, dataset: dict[str, Any]) -> int:
    """Count the images that BasicSR will find; raise FileNotFoundError if it would fail."""
    if as_mapping(dataset.get("io_backend")).get("type") == "lmdb":
        if root.suffix != ".lmdb":
            raise FileNotFoundError(f"io_backend lmdb needs a folder named *.lmdb; got {str(root)!r}")
        listing = root / "meta_info.txt"
        if not listing.is_file():
            raise FileNotFoundError(f"{str(root)!r} is no LMDB of `basicsr data prepare`: meta_info.txt is missing")
    elif (root / "data.mdb").is_file():
        raise FileNotFoundError(f"{str(root)!r} is an LMDB; set io_backend: type: lmdb, or give a folder of images")
    elif dataset.get("meta_info_file"):
        listing = Path(dataset["meta_info_file"])
    else:
        return sum(1 for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    return sum(1 for line in listing.read_text("utf-8").splitlines() if line.strip())


def _missing(where: str, path: str) -> list[Problem]:
    path = str(Path(path).expanduser())
    hint = "; make data sets with `basicsr data prepare`" if where.startswith("datasets") else ""
    return [] if Path(path).exists() else [Problem(where, f": {path!r} does not exist, from {Path.cwd()}{hint}")]


def as_mapping(value: Any) -> dict[Any, Any]:
    """Return a mapping as it is, and nothing in place of any other value."""
    return value if isinstance(value, dict) else {}
