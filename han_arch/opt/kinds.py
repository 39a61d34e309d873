"""The kinds of options: a value, a list of values, a section; and the options of a section by the `type` it names."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_KINDS = {"flag": "true or false", "whole": "a whole number", "number": "a number", "text": "text"}
# Parameters that BasicSR passes to a registered class or function itself.
_SUPPLIED = {"metric": ("img", "img2"), "optimizer": ("params",), "scheduler": ("optimizer", "last_epoch")}
_EXTRA = {"metric": ("better",)}  # BasicSR reads it; metrics receive it and ignore it
_TRUSTED = ("basicsr", "han_arch", "torch")  # the table has ranges for their parameters; their **kwargs are unused


@dataclass(frozen=True)
class Value:
    """An option with a single value.

    Args:
        kind: flag, whole, number or text.
        doc: one line for the schema.
        low, above, high, below: bounds of a number; `above` and `below` exclude the bound.
        choices: the only values.
        word: a text that is allowed too.
        pattern: regular expression for the whole text.
        wanted: description of the values for messages, instead of kind and bounds.
        null: `~` is allowed.
        need: the command that needs it: "train", "test" or "always".
        only: the class of models that reads it.
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
        """Describe the accepted values for a message."""
        bounds = [("from", self.low), ("above", self.above), ("to", self.high), ("below", self.below)]
        in_range = [f"{word} {bound}" for word, bound in bounds if bound is not None]
        words = self.wanted or " or ".join(self.choices) or " ".join([_KINDS[self.kind], *in_range])
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
        item: the kind of each value.
        length: number of values; None: one or more.
        doc, null, need, only: as for a Value.
    """

    item: Value
    length: int | None = None
    doc: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """Describe the accepted lists for a message."""
        count = "a list" if self.length is None else f"a list of {self.length}"
        return f"{count}, each {self.item.describe()}" + (" or ~" if self.null else "")

    def accepts(self, value: Any) -> bool:
        """Return whether the option may have this value."""
        if value is None:
            return self.null
        fits = isinstance(value, list) and (len(value) == self.length if self.length else bool(value))
        return fits and all(self.item.accepts(item) for item in value)


@dataclass(frozen=True)
class Section:
    """A mapping of options.

    Args:
        keys: the options.
        others: the kind of options that users name themselves, as in `val: metrics`; None: there are none.
        others_named: regular expression for the names of `others`.
        registry: the registry that `type` is looked up in; the parameters of the entry are options too.
        closed_types: entries that take the whole mapping and read nothing but the options of `keys`.
        doc, null, need, only: as for a Value.
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
        """Describe the accepted mappings for a message."""
        return "a mapping" + (f" with the type of a {self.registry}" if self.registry else "")

    def accepts(self, value: Any) -> bool:
        """Return whether the value is a mapping, or an allowed `~`; its options are checked separately."""
        return isinstance(value, dict) or (value is None and self.null)

    def other(self, name: Any) -> "Node | None":
        """Return the kind of an option that a user names so, or None if the name is not allowed."""
        return self.others if re.fullmatch(self.others_named, str(name)) else None


Node: TypeAlias = Value | Values | Section
ANYTHING = Value("text", wanted="a value")  # a parameter known by its name only


@dataclass(frozen=True)
class Options:
    """The options that a section may hold."""

    keys: Mapping[str, Node]  # options with a fixed name
    required: Sequence[str] = ()  # those that a signature requires
    complete: bool = True  # no other option has an effect


def entries(registry: str) -> Mapping[str, Callable[..., Any]]:
    """Return the classes or functions of a registry by name.

    Args:
        registry: dataset, loss, metric, model, network, optimizer or scheduler.
    """
    from basicsr.utils import registry as registries

    from han_arch.models import losses, training_step

    ours = {
        "loss": losses.classes,
        "optimizer": lambda: training_step.OPTIMIZERS,
        "scheduler": lambda: training_step.SCHEDULERS,
    }
    if registry in ours:
        return ours[registry]()
    attribute = "ARCH_REGISTRY" if registry == "network" else f"{registry.upper()}_REGISTRY"
    found = dict(iter(getattr(registries, attribute)))
    # BasicSR looks a name up with this suffix too.
    return {name.removesuffix("_basicsr"): entry for name, entry in found.items()} | found


def options_of(node: Section, content: Mapping[str, Any]) -> Options:
    """Return the options that a section may hold, given the `type` in its content."""
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
    """Return the parameters of an entry, each with whether it has no default, and whether the entry takes any others.

    A class that passes `**kwargs` on has the parameters of its bases too.
    """
    functions = [entry]
    if inspect.isclass(entry):
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
