"""Find and read option files, the user's and the shipped ones, and apply `--force_yml` overrides.

They are plain data that cannot run code. BasicSR's own loader executes YAML tags, and it passes overrides to `exec`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from han_arch import errors, files
from han_arch.errors import UserError

Addable: TypeAlias = Callable[[dict[str, Any], list[str]], Mapping[str, bool]]


class _OptionLoader(yaml.SafeLoader):
    """SafeLoader that reads `1e-4` as a number, as YAML 1.2 does, and refuses duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a list, for the super class refuses keys that cannot be hashed
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


class _OptionDumper(yaml.SafeDumper):
    """SafeDumper without aliases: BasicSR would change all places of an alias at once."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def find(path_or_name: str) -> Path:
    """Return the option file for `-opt`: a path, or a shipped name with or without `options/` and `.yml`.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    wanted, known = f"{path.name.removesuffix('.yml')}.yml", shipped_files()
    # In another folder than options/ the user means a file of that folder, never a shipped one.
    if wanted in known and str(path.parent) in (".", "options"):
        return known[wanted]
    raise UserError(
        f"no option file {path_or_name!r}: neither a path from {Path.cwd()} nor a shipped name; "
        f"{errors.hint(wanted, known)} (`basicsr options list` lists them all)"
    )


def parse(text: str, source: str) -> Any:
    """Parse YAML text; error messages call it `source`.

    Raises:
        UserError: the text is no YAML, or has a duplicate key or a tag that would run code.
    """
    try:
        return yaml.load(text, _OptionLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}") from error


def read(path_or_name: Path | str) -> dict[str, Any]:
    """Read an option file: a path or a shipped name, as for `find`.

    Raises:
        UserError: `find` or `parse` fails, or the file does not hold a mapping.
    """
    path = find(str(path_or_name))
    options = parse(path.read_text("utf-8"), str(path))
    if not isinstance(options, dict):
        raise UserError(f"{path} must hold a mapping of options; got {type(options).__name__}")
    return options


def dump(options: dict[str, Any]) -> str:
    """Return YAML text that `parse` and BasicSR's loader read as the same options."""
    return yaml.dump(options, Dumper=_OptionDumper, sort_keys=False, default_flow_style=None, allow_unicode=True)


def override(options: dict[str, Any], entries: Iterable[str], addable: Addable = lambda options, section: {}) -> None:
    """Change options in place by `--force_yml` entries such as `train:optim_g:lr=1e-3`; values are YAML.

    Args:
        options: the file's content.
        entries: strings key:key=value.
        addable: function of the options and the keys of a section. It returns the names that may be added there, each
            with whether it is a section itself; the name `*` allows any name for a mapping. Default: no names.

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
            present, new = (target, addable(options, keys[:depth])) if isinstance(target, dict) else ({}, {})
            if not (key in present or key in new or (last and "*" in new and isinstance(value, dict))):
                where = ":".join(keys[:depth]) or "the top level"
                hint = errors.hint(key, {*present, *new} - {"*"})
                raise UserError(f"--force_yml {entry!r}: {where} has no key {key!r}; {hint}")
            if last:
                target[key] = value
            elif present.get(key) is None and new.get(key):
                target[key] = {}
            target = target[key]


def shipped_folder() -> Path:
    """Return the folder of the shipped option files: han_arch/options if installed, options/ in a checkout.

    Raises:
        FileNotFoundError: neither exists.
    """
    package = Path(__file__).parents[1]
    for candidate in (package / "options", package.parent / "options"):
        if any(candidate.glob("*.yml")):
            return candidate
    raise FileNotFoundError(f"the option files are missing: no .yml in {package}/options or {package.parent}/options")


def shipped_files() -> dict[str, Path]:
    """Return the shipped option files by their names, sorted."""
    return {path.name: path for path in sorted(shipped_folder().glob("*.yml"))}


def run_names() -> list[str]:
    """Return the names for `basicsr train` and `basicsr test`, without those for `basicsr leaderboard`."""
    return [name for name in shipped_files() if not name.startswith("leaderboard_")]


def shipped_titles() -> dict[str, str]:
    """Return the first line of every shipped option file by its name."""
    first = {name: path.read_text("utf-8").partition("\n")[0] for name, path in shipped_files().items()}
    return {name: line.removeprefix("#").strip() for name, line in first.items()}


def copy_shipped(name: str, target: str) -> list[Path]:
    """Copy a shipped option file, or all; return the copies, which refer to the schema of the package.

    Args:
        name: a name as for `find`, or "all".
        target: a file, or a folder; a folder that does not exist yet ends with `/`.

    Raises:
        UserError: no such shipped file, or a new file exists already.
    """
    sources = list(shipped_files().values()) if name == "all" else [find(name)]
    into_folder = name == "all" or Path(target).is_dir() or target.endswith("/")
    pairs = {(Path(target) / source.name if into_folder else Path(target)): source for source in sources}
    existing = [str(path) for path in pairs if path.exists()]
    if existing:
        raise UserError(f"would overwrite {', '.join(existing)}; choose another target or remove it")
    schema = (shipped_folder() / "schema.json").resolve().as_uri()
    for path, source in pairs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, source.read_text("utf-8").replace("$schema=schema.json", f"$schema={schema}"))
    return list(pairs)
