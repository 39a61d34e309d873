"""Option files as plain data: a YAML loader that runs nothing, and overrides from the command line.

BasicSR reads option files with a loader that executes tags, and overrides with `exec`; both are replaced here.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from han_arch.errors import UserError


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


def override(options: dict[str, Any], entries: list[str]) -> None:
    """Change options in place by `--force_yml` entries such as `train:optim_g:lr=1e-3`; values are YAML.

    Raises:
        UserError: an entry that is not key:key=value, or a key that the file does not have.
    """
    for entry in entries:
        key_path, equals, text = entry.partition("=")
        keys = [key.strip() for key in key_path.split(":")]
        if not equals or not all(keys):
            raise UserError(f"--force_yml takes key:key=value, such as train:optim_g:lr=1e-3; got {entry!r}")
        target: Any = options
        for depth, key in enumerate(keys):
            if not isinstance(target, dict) or key not in target:
                where = ":".join(keys[:depth]) or "the top level"
                known = [str(name) for name in target] if isinstance(target, dict) else []
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known) or 'no keys'}"
                raise UserError(f"--force_yml {entry!r}: {where} has no key {key!r}; {hint}")
            if depth < len(keys) - 1:
                target = target[key]
        target[keys[-1]] = parse(text, f"--force_yml {entry!r}")
