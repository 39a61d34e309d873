"""Kinds of options: one value, a list of values, a section of named options; `known_options` is the table of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_KINDS = {"flag": "true or false", "whole": "a whole number", "number": "a number", "text": "text"}


@dataclass(frozen=True)
class Value:
    """One option that is a single value.

    Args:
        kind: flag, whole, number or text.
        doc: what it does, in one line.
        low, above, high, below: bounds of a number; `above` and `below` themselves are outside.
        choices: the only values.
        word: a text that is allowed too.
        pattern: regular expression that text must match as a whole.
        wanted: what to call the values in place of kind and bounds.
        null: `~` is allowed.
        need: "train", "test" or "always": the command that needs it.
        only: only models that are of this class read it.
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
        """What the option takes, for messages."""
        if self.choices:
            words = " or ".join(str(choice) for choice in self.choices)
        else:
            bounds = [("from", self.low), ("above", self.above), ("to", self.high), ("below", self.below)]
            words = " ".join([_KINDS[self.kind], *(f"{word} {bound}" for word, bound in bounds if bound is not None)])
        return (self.wanted or words) + (f" or {self.word}" if self.word else "") + (" or ~" if self.null else "")

    def accepts(self, value: Any) -> bool:
        """Whether the value is one that the option takes."""
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
    """One option that is a list of values.

    Args:
        item: what each is.
        length: how many; None: one or more.
        doc, null, need, only: as for a Value.
    """

    item: Value
    length: int | None = None
    doc: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """What the option takes, for messages."""
        count = "a list" if self.length is None else f"a list of {self.length}"
        return f"{count}, each {self.item.describe()}" + (" or ~" if self.null else "")

    def accepts(self, value: Any) -> bool:
        """Whether the value is one that the option takes."""
        if value is None:
            return self.null
        fits = isinstance(value, list) and (len(value) == self.length if self.length else bool(value))
        return fits and all(self.item.accepts(item) for item in value)


@dataclass(frozen=True)
class Section:
    """Options under one name.

    Args:
        keys: the options.
        others: what may stand under names of the user's own, as in `val: metrics`; None: no such names.
        registry: `type` names an entry of this registry, whose parameters are options too.
        closed_types: of a registry whose entries take a mapping: those that read the options of `keys` and no others.
        doc, null, need, only: as for a Value.
    """

    keys: Mapping[str, "Node"] = field(default_factory=dict)
    others: "Node | None" = None
    registry: str = ""
    closed_types: tuple[str, ...] = ()
    doc: str = ""
    null: bool = False
    need: str = ""
    only: str = ""

    def describe(self) -> str:
        """What the option takes, for messages."""
        return "a mapping" + (f" with a type, from the {self.registry}s" if self.registry else "")

    def accepts(self, value: Any) -> bool:
        """Whether the value is a mapping (or `~` where that is allowed); its options are another matter."""
        return isinstance(value, dict) or (value is None and self.null)


Node: TypeAlias = Value | Values | Section
