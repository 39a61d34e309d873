"""Option files as plain data: a YAML loader that runs nothing, and overrides from the command line.

BasicSR reads option files with a loader that executes tags, and overrides with `exec`; both are replaced here.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from han_arch.errors import UserError

Known: TypeAlias = Callable[[dict[str, Any], list[str]], Mapping[str, bool]]


def _nothing(options: dict[str, Any], keys: list[str]) -> dict[str, bool]:
    return {}


class _OptionLoader(yaml.SafeLoader):
    """SafeLoader that takes `1e-4` for a number, as YAML 1.2 does, and refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice in one mapping", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


class _OptionDumper(yaml.SafeDumper):
    """SafeDumper without aliases, which BasicSR would change in all places at once."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def parse(text: str, source: str) -> Any:
    """Parse YAML text.

    Args:
        text: the YAML.
        source: what to call it in errors.

    Raises:
        UserError: not YAML, a duplicate key, or a tag that would run code.
    """
    try:
        return yaml.load(text, _OptionLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}") from error


def read(path: Path) -> dict[str, Any]:
    """Read an option file.

    Raises:
        UserError: see `parse`; or the file does not hold a mapping.
    """
    options = parse(path.read_text("utf-8"), str(path))
    if not isinstance(options, dict):
        raise UserError(f"{path} must hold a mapping of options; got {type(options).__name__}")
    return options


def dump(options: dict[str, Any]) -> str:
    """YAML text that `parse`, and BasicSR's own loader, read as the same options."""
    return yaml.dump(options, Dumper=_OptionDumper, sort_keys=False, default_flow_style=None, allow_unicode=True)


def override(options: dict[str, Any], entries: list[str], known: Known = _nothing) -> None:
    """Change options in place by `--force_yml` entries such as `train:optim_g:lr=1e-3`; values are YAML.

    Args:
        options: the file's content.
        entries: key:key=value each.
        known: options and the way to a section -> what may be added there, each with whether it is a section itself;
            `*` stands for any name whose value is a mapping.

    Raises:
        UserError: an entry that is not key:key=value, or a key that is neither in the file nor known.
    """
    for entry in entries:
        key_path, equals, text = entry.partition("=")
        keys = [key.strip() for key in key_path.split(":")]
        if not equals or not all(keys):
            raise UserError(f"--force_yml takes key:key=value, such as train:optim_g:lr=1e-3; got {entry!r}")
        value = parse(text, f"--force_yml {entry!r}")
        target: Any = options
        for depth, key in enumerate(keys):
            last = depth == len(keys) - 1
            present = target if isinstance(target, dict) else {}
            addable = known(options, keys[:depth]) if isinstance(target, dict) else {}
            if not (key in present or key in addable or (last and "*" in addable and isinstance(value, dict))):
                where = ":".join(keys[:depth]) or "the top level"
                names = sorted({str(name) for name in (*present, *addable)} - {"*"})
                close = difflib.get_close_matches(key, names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it may have {', '.join(names) or 'no keys'}"
                raise UserError(f"--force_yml {entry!r}: {where} has no key {key!r}; {hint}")
            if last:
                target[key] = value
            else:
                if present.get(key) is None and addable.get(key):
                    target[key] = {}
                target = target[key]
