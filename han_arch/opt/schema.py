"""Write the table of options as a JSON schema, so that editors complete and check option files.

The schema checks nothing that needs BasicSR: names in registries, and parameters of their entries except HAN's.
"""

import inspect
import json
from typing import Any

from han_arch.archs import HAN
from han_arch.opt.kinds import Node, Section, Value, Values
from han_arch.opt.known import CLOSED_MODELS, OPTIONS

_TYPES = {"flag": "boolean", "whole": "integer", "number": "number", "text": "string"}
_BOUNDS = {"low": "minimum", "above": "exclusiveMinimum", "high": "maximum", "below": "exclusiveMaximum"}


def as_text() -> str:
    """Return the schema (draft 7) as the text of options/schema.json."""
    head = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "BasicSR options, with those of HANModel",
        "$comment": "Made by scripts/make_options.py from han_arch/opt/known.py; change that file.",
    }
    return json.dumps(head | _node(OPTIONS), indent=1, ensure_ascii=False) + "\n"


def _node(node: Node) -> dict[str, Any]:
    made = _value(node) if isinstance(node, Value) else _values(node) if isinstance(node, Values) else _section(node)
    if node.null:
        made = {"anyOf": [made, {"type": "null"}]}
    doc = "; ".join(part for part in (node.doc, f"{node.only} only" if node.only else "") if part)
    return ({"description": doc} if doc else {}) | made


def _value(node: Value) -> dict[str, Any]:
    if node.choices:
        return {"enum": list(node.choices)}
    made: dict[str, Any] = {"type": _TYPES[node.kind]}
    made |= {word: getattr(node, name) for name, word in _BOUNDS.items() if getattr(node, name) is not None}
    if node.pattern:
        made["pattern"] = f"^(?:{node.pattern})$"
    return {"anyOf": [made, {"const": node.word}]} if node.word else made


def _values(node: Values) -> dict[str, Any]:
    count = {"minItems": node.length or 1} | ({"maxItems": node.length} if node.length else {})
    return {"type": "array", "items": _node(node.item), **count}


def _section(node: Section) -> dict[str, Any]:
    keys = {key: _node(child) for key, child in node.keys.items()}
    needed = [key for key, child in node.keys.items() if child.need == "always"]
    made: dict[str, Any] = {"type": "object", "properties": keys}
    if needed:
        made["required"] = needed
    if node.others is not None and node.others_named == ".*":
        made["additionalProperties"] = _node(node.others)
    elif node.others is not None:
        made |= {"patternProperties": {f"^(?:{node.others_named})$": _node(node.others)}, "additionalProperties": False}
    elif node.registry == "network":
        keys["type"] = keys["type"] | {"examples": ["HAN", "RCAN", "EDSR", "SwinIR"]}
        made |= _only_if("type", ["HAN"], ["type", *inspect.signature(HAN).parameters])
    elif node.closed_types:
        made |= _only_if("type", list(node.closed_types), list(keys))
    elif node is OPTIONS:
        made |= _only_if("model_type", list(CLOSED_MODELS), list(keys))
    elif not node.registry:
        made["additionalProperties"] = False
    return made


def _only_if(key: str, values: list[str], names: list[str]) -> dict[str, Any]:
    """Forbid other names if `key` has one of the values; else another package may read more options."""
    return {
        "if": {"properties": {key: {"enum": values}}, "required": [key]},
        "then": {"propertyNames": {"enum": names}},
    }
