"""Read option files and `--force_yml` overrides as plain data; nothing in them can run code.

BasicSR's own loader executes YAML tags, and it passes overrides to `exec`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from han_arch import errors
from han_arch.errors import UserError

Addable: TypeAlias = Callable[[dict[str, Any], list[str]], Mapping[str, bool]]


class _OptionLoader(yaml.SafeLoader):
    """SafeLoader that reads `1e-4` as a number, as YAML 1.2 does, and refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


class _OptionDumper(yaml.SafeDumper):
    """SafeDumper without aliases: BasicSR would change all places of an alias at once."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def parse(text: str, source: str) -> Any:
    """Parse YAML text.

    Args:
        text: the YAML.
        source: its name in error messages.

    Raises:
        UserError: the text is no YAML, or has a duplicate key or a tag that would run code.
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
        UserError: `parse` fails, or the file does not hold a mapping.
    """
    options = parse(path.read_text("utf-8"), str(path))
    if not isinstance(options, dict):
        raise UserError(f"{path} must hold a mapping of options; got {type(options).__name__}")
    return options


def dump(options: dict[str, Any]) -> str:
    """Return YAML text that `parse` and BasicSR's loader read as the same options."""
    return yaml.dump(options, Dumper=_OptionDumper, sort_keys=False, default_flow_style=None, allow_unicode=True)


def override(options: dict[str, Any], entries: Iterable[str], addable: Addable | None = None) -> None:
    """Change options in place by `--force_yml` entries such as `train:optim_g:lr=1e-3`; values are YAML.

    Args:
        options: the file's content.
        entries: strings key:key=value.
        addable: function of the options and the keys of a section. It returns the names that may be added there, each
            with whether it is a section itself; the name `*` allows any name for a mapping. None: no name.

    Raises:
        UserError: an entry is not key:key=value, or a key is neither in the file nor addable.
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
            new = addable(options, keys[:depth]) if addable and isinstance(target, dict) else {}
            if not (key in present or key in new or (last and "*" in new and isinstance(value, dict))):
                where = ":".join(keys[:depth]) or "the top level"
                hint = errors.hint(key, {*present, *new} - {"*"})
                raise UserError(f"--force_yml {entry!r}: {where} has no key {key!r}; {hint}")
            if last:
                target[key] = value
            else:
                if present.get(key) is None and new.get(key):
                    target[key] = {}
                target = target[key]
