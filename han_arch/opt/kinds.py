"""The three kinds of options: a single value, a list of values, and a section (a mapping of options)."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_KINDS = {"flag": "true or false", "whole": "a whole number", "number": "a number", "text": "text"}
# Parameters that BasicSR passes to a registered class or function itself. Option files cannot set them.
_SUPPLIED = {"metric": ("img", "img2"), "optimizer": ("params",), "scheduler": ("optimizer", "last_epoch")}
_EXTRA = {"metric": ("better",)}  # BasicSR itself reads `better`; metric functions receive it and ignore it
# The classes of these packages ignore additional **kwargs. The table of options has ranges for their named parameters.
_TRUSTED = ("basicsr", "han_arch", "torch")


@dataclass(frozen=True)
class Value:
    """An option with a single value.

    Args:
        kind: "flag", "whole", "number" or "text".
        doc: description of the option for the JSON schema, in one line.
        low, above, high, below: bounds of a number (value >= low, value > above, value <= high, value < below).
        choices: all accepted values; if empty, every value of the kind is accepted.
        word: a text that is accepted in addition, such as "auto" for a number.
        pattern: regular expression that a text must match completely.
        wanted: the accepted values in words, for error messages; if empty, `describe` writes the words.
        null: True if `~` (YAML's null) is accepted.
        need: the command that requires the option, "train" or "test"; or "always" (both commands) or "" (no command).
        only: model class. Only this class and its subclasses read the option; if empty, all models read the option.
    """

    kind: str
    doc: str = ""
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    word: str = ""
    pattern: str = ""
    wanted: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """Return a text for error messages that says what the value must be, such as "a number >= 0"."""
        bounds = [(">=", self.low), (">", self.above), ("<=", self.high), ("<", self.below)]
        in_range = " and ".join(f"{sign} {bound}" for sign, bound in bounds if bound is not None)
        words = self.wanted or " or ".join(self.choices) or f"{_KINDS[self.kind]} {in_range}".strip()
        return words + (f" or {self.word}" if self.word else "") + (" or ~" if self.null else "")

    def accepts(self, value: Any) -> bool:
        """Return whether the option may have this value."""
        if value is None:
            return self.null
        if self.word and value == self.word:
            return True
        if self.choices:
            return value in self.choices
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str) and bool(re.fullmatch(self.pattern or r"(?s:.*)", value))
        types = int if self.kind == "whole" else (int, float)
        return (
            isinstance(value, types)
            and not isinstance(value, bool)
            and value == value  # not a NaN
            and (self.low is None or value >= self.low)
            and (self.above is None or value > self.above)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Values:
    """An option with a list of values.

    Args:
        item: the kind of each value in the list.
        length: number of values in the list; None: one or more.
        doc, null, need, only: as in `Value`.
    """

    item: Value
    length: int | None = None
    doc: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """Return a text for error messages that says what the list must be, such as "a list of 2 values, each ..."."""
        count = f"a list of {self.length or 'one or more'} values"
        return f"{count}, each {self.item.describe()}" + (" or ~" if self.null else "")

    def accepts(self, value: Any) -> bool:
        """Return whether the option may have this value."""
        if value is None:
            return self.null
        fits = isinstance(value, list) and (len(value) == self.length if self.length else bool(value))
        return fits and all(self.item.accepts(item) for item in value)


@dataclass(frozen=True)
class Section:
    """A section: a mapping of option names to options.

    Args:
        keys: options with fixed names.
        others: options with names that the user chooses, such as the metrics in `val:metrics`; None: no such options.
        others_named: regular expression that the names chosen by the user must match.
        registry: name of a registry, such as "loss" (see `entries`). The option `type` names a class or function in it,
            and the parameters of this class or function are options of the section.
        closed_types: names of classes that read only the options in `keys`. Their parameters are not options, because
            each class gets the section as one dict.
        doc, null, need, only: as in `Value`.
    """

    keys: Mapping[str, "Node"] = field(default_factory=dict)
    others: "Node | None" = None
    others_named: str = ".*"
    registry: str = ""
    closed_types: tuple[str, ...] = ()
    doc: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """Return a text for error messages that says what the section must be, such as "a mapping of options"."""
        return "a mapping of options" + (f" with the name of a {self.registry} as `type`" if self.registry else "")

    def accepts(self, value: Any) -> bool:
        """Return True for any mapping, and for `~` if `null` is True. The options in the mapping are not checked."""
        return isinstance(value, dict) or (value is None and self.null)

    def other(self, name: Any) -> "Node | None":
        """Return the kind of an option with a name that the user chose, or None if this name is not allowed."""
        return self.others if re.fullmatch(self.others_named, str(name)) else None


Node: TypeAlias = Value | Values | Section
ANYTHING = Value("text", wanted="a value")  # an option with any value: only its name is checked


@dataclass(frozen=True)
class Options:
    """The options that a section may contain."""

    keys: Mapping[str, Node]  # options with fixed names
    required: Sequence[str] = ()  # parameters without a default value
    complete: bool = True  # False: another package may read more options


def entries(registry: str) -> Mapping[str, Callable[..., Any]]:
    """Return the classes or functions in a registry, keyed by name.

    The registries are "dataset", "loss", "metric", "model", "network", "optimizer" and "scheduler".
    """
    from basicsr.utils import registry as registries

    from han_arch.models import losses, training_step

    if registry == "loss":
        return losses.classes()
    if registry in ("optimizer", "scheduler"):
        return training_step.OPTIMIZERS if registry == "optimizer" else training_step.SCHEDULERS
    attribute = "ARCH_REGISTRY" if registry == "network" else f"{registry.upper()}_REGISTRY"
    found = dict(iter(getattr(registries, attribute)))
    # BasicSR finds the entry NAME_basicsr by NAME too.
    return {name.removesuffix("_basicsr"): entry for name, entry in found.items()} | found


def options_of(node: Section, content: Mapping[str, Any]) -> Options:
    """Return the options that a section may contain. The result depends on the option `type` in `content`."""
    if not node.registry:
        return Options(node.keys)
    named, known = content.get("type"), entries(node.registry)
    if not isinstance(named, str) or named not in known:
        return Options(node.keys, complete=False)
    if node.closed_types:
        return Options(node.keys, complete=named in node.closed_types)
    needed, open_ended = _parameters(known[named], node.registry)
    trusted = known[named].__module__.partition(".")[0] in _TRUSTED
    ranges = node.keys if trusted else {}
    keys = {"type": node.keys["type"], **{name: ranges.get(name, ANYTHING) for name in needed}}
    return Options(keys, [name for name in needed if needed[name]], complete=trusted or not open_ended)


def _parameters(entry: Callable[..., Any], registry: str) -> tuple[dict[str, bool], bool]:
    """Return a dict of the parameters that are options (True: required), and True if `entry` accepts **kwargs."""
    functions = [entry]
    if inspect.isclass(entry):  # a constructor with **kwargs passes them to the base class
        own = [cls for cls in entry.__mro__ if cls.__module__ not in ("builtins", "torch.nn.modules.module")]
        functions = [vars(cls)["__init__"] for cls in own if "__init__" in vars(cls)]
    needed, open_ended = dict.fromkeys(_EXTRA.get(registry, ()), False), False
    for function in functions:
        found = inspect.signature(function).parameters.values()
        for one in found:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                needed.setdefault(one.name, one.default is one.empty)
        open_ended = any(one.kind is one.VAR_KEYWORD for one in found)
        if not open_ended:
            break
    supplied = ("self", *_SUPPLIED.get(registry, ()))
    return {name: need for name, need in needed.items() if name not in supplied}, open_ended
