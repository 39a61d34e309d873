"""The check of an option file before anything is built: every problem is found, each with where, wanted and got."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from han_arch import errors
from han_arch.opt import registered
from han_arch.opt.kinds import Node, Section, Value, Values
from han_arch.opt.known import CLOSED_MODELS, CLOSED_SETS, MOVED, OLD_NAMES, OPTIONS


@dataclass(frozen=True)
class Problem:
    """Something wrong, or (`warning`) something odd that a run may go on with.

    Args:
        where: key:key of the option; empty for the whole file.
        text: what was wanted and what was got, to be read after `where`.
        warning: the run may go on.
    """

    where: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.where or 'the option file'}{self.text}"


@dataclass(frozen=True)
class _Run:
    """What the options are for.

    Args:
        command: "train" or "test".
        model: the model's name.
        bases: names of its class and their bases; empty where another package may read more than we know.
        closed: the section's options are all known; else an unknown one may be read by another package.
    """

    command: str
    model: Any
    bases: tuple[str, ...]
    closed: bool


def rename_old(opt: dict[str, Any]) -> list[Problem]:
    """Give options with a name of another BasicSR version today's, in place; a warning for each."""
    renamed = []
    for pattern, new in OLD_NAMES.items():
        *parents, old = pattern.split(":")
        for where, section in _sections(opt, parents):
            # A data set or model of another package may read the old name as its own.
            known = (
                section.get("type") in CLOSED_SETS
                if parents[0] == "datasets"
                else opt.get("model_type") in CLOSED_MODELS
            )
            if known and old in section and new not in section:
                section[new] = section.pop(old)
                text = f":{old} is called {new} in this BasicSR; read as that"
                renamed.append(Problem(where, text, warning=True))
    return renamed


def check_options(opt: dict[str, Any], *, is_train: bool) -> list[Problem]:
    """Problems of single options: missing, unknown, of the wrong type, out of range, naming nothing registered.

    Needs BasicSR imported and the plugins loaded. Whole numbers written as 5e3 become whole numbers in place.

    Args:
        opt: the option file's content.
        is_train: for `basicsr train`; else for `basicsr test`.
    """
    models = registered.entries("model")
    model = opt.get("model_type")
    known = isinstance(model, str) and model in models
    bases = [cls.__name__ for cls in models[model].__mro__] if model in CLOSED_MODELS and known else []  # type: ignore
    run = _Run(
        command="train" if is_train else "test",
        model=model,
        bases=tuple(bases),
        closed=model in CLOSED_MODELS,
    )
    problems = list(_section(opt, OPTIONS, "", run))
    if isinstance(model, str) and not known:
        problems.append(Problem("model_type", f": nothing named {model!r} is registered; {errors.hint(model, models)}"))
    return problems


def known_at(opt: dict[str, Any], keys: list[str]) -> dict[str, Node]:
    """The options that may stand in a section, present or not; under `*` what names of the user's own may hold.

    Needs BasicSR imported and the plugins loaded.

    Args:
        opt: the option file's content.
        keys: the way to the section; empty: the top level.
    """
    node, section = OPTIONS, opt
    for key in keys:
        child = _takes(section, node, True)[0].get(key, node.others)
        if not isinstance(child, Section):
            return {}
        inner = section.get(key)
        node, section = child, inner if isinstance(inner, dict) else {}
    known = _takes(section, node, True)[0]
    return known if node.others is None else {**known, "*": node.others}


def _takes(section: dict[str, Any], node: Section, closed: bool) -> tuple[dict[str, Node], list[str], bool]:
    """What a section takes by its `type`: options, those of them that a signature requires, whether these are all."""
    keys, required = dict(node.keys), list[str]()
    if not node.registry:
        return keys, required, closed
    named, known = section.get("type"), registered.entries(node.registry)
    if not isinstance(named, str) or named not in known:
        return keys, required, False
    if node.closed_types:
        return keys, required, named in node.closed_types
    takes = registered.parameters(node.registry, known[named])
    ranges = keys if registered.trusted(known[named]) else {}
    named_keys: dict[str, Node] = {"type": keys["type"]}
    named_keys |= {name: ranges.get(name, _ANYTHING) for name in takes.names}
    return named_keys, list(takes.required), not takes.passes_on


def _section(section: dict[str, Any], node: Section, where: str, run: _Run) -> Iterator[Problem]:
    keys, required, closed = _takes(section, node, run.closed)
    if node.registry:
        named = section.get("type")
        known = registered.entries(node.registry)
        if isinstance(named, str) and named not in known:
            hint = errors.hint(named, known)
            yield Problem(f"{where}:type", f": nothing named {named!r} is registered; {hint}")
    required += [key for key, child in keys.items() if child.need in ("always", run.command)]
    for key in dict.fromkeys(required):
        # `~` for something that must be there is as good as its absence.
        if key not in section or (section[key] is None and not keys[key].null):
            yield Problem(where, f" lacks {key}: {keys[key].describe()}")
    for key in list(section):
        child = keys.get(key, node.others)
        if child is not None:
            if section[key] is not None or key not in required:
                yield from _option(section, key, child, f"{where}:{key}".removeprefix(":"), replace(run, closed=closed))
        elif closed or errors.nearest(key, keys, likeness=0.75):
            yield _unknown(key, keys, where, warning=not closed)


def _option(section: dict[str, Any], key: str, node: Node, where: str, run: _Run) -> Iterator[Problem]:
    value = section[key]
    if isinstance(node, Value) and node.kind == "whole":
        value = section[key] = _whole(value)
    elif isinstance(node, Values) and node.item.kind == "whole" and isinstance(value, list):
        value = section[key] = [_whole(item) for item in value]
    if node.only and run.bases and node.only not in run.bases:
        yield Problem(where, f" works with model_type {node.only} only; got {run.model}")
    elif not node.accepts(value):
        if node is not _ANYTHING:
            yield Problem(where, f" must be {node.describe()}; got {value!r}")
    elif isinstance(node, Section) and value is not None:
        yield from _section(value, node, where, run)


def _unknown(key: Any, known: dict[str, Node], where: str, *, warning: bool) -> Problem:
    if not where and key in MOVED:
        return Problem(key, f" is no option of the top level; it is {MOVED[key]}", warning)
    reader = " (some other package may read it)" if warning else ""
    return Problem(f"{where}:{key}".removeprefix(":"), f": no such option{reader}; {errors.hint(key, known)}", warning)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _sections(opt: dict[str, Any], parents: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """The sections that a path such as datasets:* means, each with its own path."""
    found: list[tuple[str, Any]] = [("", opt)]
    for parent in parents:
        found = [
            (f"{where}:{key}".removeprefix(":"), section[key])
            for where, section in found
            for key in (section if parent == "*" else [parent])
            if isinstance(section.get(key), dict)
        ]
    return found


# A parameter that is known by name only.
_ANYTHING = Value("text", wanted="a value")
