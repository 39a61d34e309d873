"""Check the options of an option file, check that their files and folders exist, and try to build the network."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from han_arch import errors
from han_arch.data import pairs
from han_arch.opt.kinds import ANYTHING, Node, Section, entries, options_of
from han_arch.opt.known import CLOSED_MODELS, MOVED, OPTIONS
from han_arch.zoo import entry
from han_arch.zoo.size_limit import build_empty

_ROOTS = ("dataroot_gt", "dataroot_lq")
_TEXTS = ("type", "phase", "name", *_ROOTS, "meta_info_file", "filename_tmpl")
_READ_FROM_SET = {**dict.fromkeys(_TEXTS, str), "io_backend": dict, "gt_size": int}  # option -> type of its value


@dataclass(frozen=True)
class Problem:
    """An error or a warning about the options of a run."""

    where: str  # path of the option, such as train:total_iter; empty for the complete option file
    text: str  # the message is `where` followed by `text`
    warning: bool = False  # True: the run can start in spite of the problem

    def __str__(self) -> str:
        return f"{self.where or 'the option file'}{self.text}"


@dataclass(frozen=True)
class _CheckedRun:
    command: str  # "train" or "test"
    model: Any  # value of the option model_type
    bases: tuple[str, ...]  # names of the model's class and base classes; empty for a model of another package
    closed: bool  # True: an unknown option is an error. False: another package may read it.


def check_options(opt: dict[str, Any], *, is_train: bool) -> list[Problem]:
    """Find missing and unknown options, values of a wrong type or out of range, and names that are not registered.

    `opt` must not contain the options that `normalise` adds.
    """
    models: Mapping[str, Any] = entries("model")
    model: Any = opt.get("model_type")
    closed = model in CLOSED_MODELS
    bases = tuple(cls.__name__ for cls in models[model].__mro__) if closed and model in models else ()
    run = _CheckedRun("train" if is_train else "test", model, bases, closed)
    return [*_check_section(opt, OPTIONS, "", run), *_check_registered("model_type", model, models)]


def try_network(network: Any) -> list[Problem]:
    """Build the network of the section `network_g`, to find options that its constructor does not accept."""
    if not isinstance(network, dict):  # `check_options` reports this problem
        return []
    try:
        build_empty_network(network)
    except Exception as error:  # constructors of other packages may raise any exception
        return [Problem("network_g", f": {network['type']} cannot be built: {error}")]
    squeeze, features = network.get("squeeze_factor"), network.get("num_feat")
    if isinstance(squeeze, int) and isinstance(features, int) and squeeze > features:
        return [Problem("network_g:squeeze_factor", f" must be at most num_feat ({features}); got {squeeze}")]
    return []


def build_empty_network(network: dict[str, Any]) -> nn.Module:
    """Build the network of the section `network_g` without memory for its weights, see `build_empty`.

    Raise the error of the constructor if it does not accept the options.
    """
    arguments = {key: value for key, value in network.items() if key != "type"}
    return build_empty(lambda: entries("network")[network["type"]](**arguments))


def check_files(opt: dict[str, Any]) -> list[Problem]:
    """Find missing files and folders, and faults in the data sets.

    All file names are checked. All images for validation and testing are decoded. Of several processes, only the one
    with rank 0 opens images and LMDBs.
    """
    problems: list[Problem] = []
    for name, dataset in as_mapping(opt.get("datasets")).items():
        is_main = not opt.get("rank")
        problems += _check_dataset(f"datasets:{name}", as_mapping(dataset), opt.get("scale"), is_main=is_main)
    for key, value in as_mapping(opt.get("path")).items():
        names_file = str(key).startswith("pretrain_network") or key == "resume_state"
        if isinstance(value, str) and names_file and not (key == "pretrain_network_g" and entry.is_name(value)):
            problems += _missing(f"path:{key}", value)
    return problems


def addable(opt: dict[str, Any], keys: list[str]) -> dict[str, bool]:
    """Return a dict with the names of the options that `--force_yml` may add to a section.

    The value is True for an option that is a section. The name `*` means that the user may choose other names too.

    Args:
        opt: content of the option file.
        keys: path of the section, such as ["train", "optim_g"]; empty for the top level of the file.
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
    needed = [key for key, child in keys.items() if child.need in ("always", run.command)]
    required = dict.fromkeys([*options.required, *needed])
    for key in required:
        # A required option with the value `~` counts as missing, unless the option accepts `~`.
        if content.get(key) is None and not (key in content and keys[key].null):
            yield Problem(where, f" lacks {key}; add this option ({keys[key].describe()})")
    for key, value in content.items():
        child = keys.get(key) or node.other(key)
        if child is not None:
            if value is not None or key not in required:
                yield from _check_option(value, child, f"{where}:{key}".removeprefix(":"), run)
        elif run.closed or errors.nearest(key, keys, likeness=0.75):
            yield _unknown(key, keys, where, warning=not run.closed)


def _check_option(value: Any, node: Node, where: str, run: _CheckedRun) -> Iterator[Problem]:
    if node.only and run.bases and node.only not in run.bases:
        yield Problem(where, f" works only with model_type {node.only}; got model_type {run.model}")
    elif not node.accepts(value):
        if node is not ANYTHING:
            yield Problem(where, f" must be {node.describe()}; got {value!r}")
    elif isinstance(node, Section) and value is not None:
        yield from _check_section(value, node, where, run)


def _check_registered(where: str, name: Any, known: Any) -> Iterator[Problem]:
    if isinstance(name, str) and name not in known:
        yield Problem(where, f": {name!r} is not a registered name; {errors.hint(name, known)}")


def _unknown(key: Any, known: Any, where: str, *, warning: bool) -> Problem:
    if not where and key in MOVED:
        return Problem(key, f" is not a top-level option; use {MOVED[key]} instead", warning)
    reader = " (unless another package reads it)" if warning else ""
    return Problem(f"{where}:{key}".removeprefix(":"), f": unknown option{reader}; {errors.hint(key, known)}", warning)


def _check_dataset(where: str, dataset: dict[str, Any], scale: Any, *, is_main: bool) -> Iterator[Problem]:
    wanted = pairs.SIDES.get(str(dataset.get("type")), ())
    for key in wanted:
        if dataset.get(key) is None:
            yield Problem(where, f" lacks {key}; add this option with the path of an image folder or LMDB (*.lmdb)")
    named = [key for key in (*_ROOTS, "meta_info_file") if isinstance(dataset.get(key), str)]
    missing = [problem for key in named for problem in _missing(f"{where}:{key}", dataset[key])]
    yield from missing
    backend = as_mapping(dataset.get("io_backend")).get("type")
    if missing or not wanted or not set(wanted) <= set(named) or backend not in ("disk", "lmdb"):
        return
    # Leave out options of a wrong type; `check_options` reports them.
    options: dict[str, Any] = {
        key: value for key, value in dataset.items() if isinstance(value, _READ_FROM_SET.get(key, ()))
    }
    if type(scale) is int and scale > 0:
        options["scale"] = scale
    try:
        listing = pairs.list_items(options)
        for fault in listing.faults:
            yield Problem(f"{where}:{fault.option}".removesuffix(":"), f": {fault.text}")
        if is_main and listing.items:
            yield from (Problem(where, f": {text}") for text in pairs.check_items(listing, options))
    except (OSError, ValueError) as error:  # ValueError: a path contains a null character or is not UTF-8
        text = errors.one_line(error) if isinstance(error, (OSError, UnicodeEncodeError)) else error
        yield Problem(where, f": {text}")


def _missing(where: str, path: str) -> Iterator[Problem]:
    path = os.path.expanduser(path)
    if not Path(path).exists():
        hint = "; you can create data sets with `basicsr data prepare`" if where.startswith("datasets") else ""
        yield Problem(where, f": {path!r} does not exist (current folder: {Path.cwd()}){hint}")


def as_mapping(value: Any) -> dict[Any, Any]:
    """Return the value if it is a dict, else an empty dict."""
    return value if isinstance(value, dict) else {}
