"""Check the options of a file one by one: every problem says where it is, what was wanted and what was found."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from han_arch import errors
from han_arch.opt.kinds import ANYTHING, Node, Section, entries, options_of
from han_arch.opt.known import CLOSED_MODELS, MOVED, OPTIONS


@dataclass(frozen=True)
class Problem:
    """An error in the options, or a warning.

    Args:
        where: key:key of the option; empty for the whole file.
        text: what was wanted and what was found; `where` comes before it.
        warning: the run can start.
    """

    where: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.where or 'the option file'}{self.text}"


@dataclass(frozen=True)
class CheckedRun:
    """The run that options are checked for.

    Args:
        command: "train" or "test".
        model: the name of the model.
        bases: names of the model's class and its bases; empty if another package may read more options.
        closed: an unknown option of the section has no effect; else another package may read it.
    """

    command: str
    model: Any
    bases: tuple[str, ...]
    closed: bool


def check_options(opt: dict[str, Any], *, is_train: bool) -> list[Problem]:
    """Find options that are missing, unknown, of the wrong type, out of range, or name nothing that is registered.

    Needs BasicSR imported and the plugins loaded.

    Args:
        opt: the option file's content, with the names and whole numbers of `normalise`.
        is_train: whether `basicsr train` reads them; else `basicsr test`.
    """
    models = entries("model")
    model = opt.get("model_type")
    known = isinstance(model, str) and model in models
    closed = model in CLOSED_MODELS
    bases = tuple(cls.__name__ for cls in models[model].__mro__) if closed and known else ()  # type: ignore
    run = CheckedRun("train" if is_train else "test", model, bases, closed)
    problems = list(_check_section(opt, OPTIONS, "", run))
    if isinstance(model, str) and not known:
        problems.append(_unregistered("model_type", model, models))
    return problems


def try_network(network: Any) -> list[Problem]:
    """Build a network to see if its constructor accepts the options.

    It is built on the meta device, without memory for weights. If its constructor reads values of tensors, which the
    meta device does not have, it is built on the CPU.

    Args:
        network: the section `network_g`; a value that is no mapping is a problem of `check_options`.
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


def known_at(opt: dict[str, Any], keys: list[str]) -> dict[str, Node]:
    """Return the options that a section may hold; under `*` the kind of those that users name.

    Needs BasicSR imported and the plugins loaded.

    Args:
        opt: the option file's content.
        keys: the keys that lead to the section; empty: the top level.
    """
    node, content = OPTIONS, opt
    for key in keys:
        child = options_of(node, content).keys.get(key) or node.other(key)
        if not isinstance(child, Section):
            return {}
        inner = content.get(key)
        node, content = child, inner if isinstance(inner, dict) else {}
    others = {} if node.others is None else {"*": node.others}
    return {**options_of(node, content).keys, **others}


def _check_section(content: dict[str, Any], node: Section, where: str, run: CheckedRun) -> Iterator[Problem]:
    options = options_of(node, content)
    keys = options.keys
    if node.registry:
        run = replace(run, closed=options.complete)
        named, known = content.get("type"), entries(node.registry)
        if isinstance(named, str) and named not in known:
            yield _unregistered(f"{where}:type", named, known)
    required = dict.fromkeys(options.required)
    required |= dict.fromkeys(key for key, child in keys.items() if child.need in ("always", run.command))
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


def _check_option(value: Any, node: Node, where: str, run: CheckedRun) -> Iterator[Problem]:
    if node.only and run.bases and node.only not in run.bases:
        yield Problem(where, f" works with model_type {node.only} only; got {run.model}")
    elif not node.accepts(value):
        if node is not ANYTHING:
            yield Problem(where, f" must be {node.describe()}; got {value!r}")
    elif isinstance(node, Section) and value is not None:
        yield from _check_section(value, node, where, run)


def _unregistered(where: str, name: str, known: Any) -> Problem:
    return Problem(where, f": nothing named {name!r} is registered; {errors.hint(name, known)}")


def _unknown(key: Any, known: Any, where: str, *, warning: bool) -> Problem:
    if not where and key in MOVED:
        return Problem(key, f" is no option of the top level; it is {MOVED[key]}", warning)
    reader = " (another package may read it)" if warning else ""
    return Problem(f"{where}:{key}".removeprefix(":"), f": no such option{reader}; {errors.hint(key, known)}", warning)
