"""Find and read option files (the user's and the shipped ones), and apply `--force_yml` overrides.

BasicSR's own loader can run code from an option file: it executes YAML tags, and it passes overrides to `exec`.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from han_arch import errors, files
from han_arch.errors import UserError, printable

_MOST_BYTES = 2**20  # size of a larger file than any option file
_MOST_VALUES = 10_000  # values in an option file, where each alias (*name) counts as much as its anchor (&name)
_DEEPEST = 50  # levels of sections and lists inside each other


class _OptionLoader(yaml.SafeLoader):
    """A SafeLoader that reads `1e-4` as a number (as in YAML 1.2).

    It raises a YAMLError with a line number for each fault of the text: duplicate keys, a value that does not fit its
    tag, and nesting or aliases that could exhaust the memory.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth, self._values = 0, 0
        self._sizes: dict[int, int] = {}  # id of a complete node -> number of values in it

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        before, alias = self._values, isinstance(event, yaml.AliasEvent)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {_DEEPEST} levels of nesting", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "an alias refers to itself", event.start_mark)
        self._values += self._sizes[id(node)] if alias else 1
        if self._values > _MOST_VALUES:
            problem = f"more than {_MOST_VALUES:,} values (each alias counts as a copy)"
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        if not alias:
            self._sizes[id(node)] = self._values - before
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = str(node.tag).rpartition(":")[2]
            problem = f"{str(node.value)[:60]!r} is not a valid value of the type {kind}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []  # a list and not a set, because keys may be unhashable
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *name`, which the base class expands
                continue
            key = self.construct_object(key_node, deep=deep)
            if key in seen:
                problem = f"the key {key!r} appears twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep=deep)


_OptionLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


class _OptionDumper(yaml.SafeDumper):
    """A SafeDumper that writes no YAML aliases: with an alias, a change of one option would also change another."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def find(path_or_name: str) -> Path:
    """Find an option file by its path, or a shipped one by its name. The name needs no `options/` and no `.yml`.

    Raises:
        UserError: no file has this path, and no shipped option file has this name.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    wanted, known = f"{path.name.removesuffix('.yml')}.yml", shipped_files()
    # A path in another folder than options/ never means a shipped option file.
    if wanted in known and str(path.parent) in (".", "options"):
        return known[wanted]
    if path.exists():
        raise UserError(f"{path_or_name!r} is not a regular file; pass the path of an option file (.yml)")
    raise UserError(
        f"no file {path_or_name!r} exists (current folder: {Path.cwd()}), and no shipped option file has this name; "
        f"{errors.hint(wanted, known)}; `basicsr options list` prints all shipped names"
    )


def parse(text: str, source: str) -> Any:
    """Parse YAML text. Error messages start with the source, such as a file name.

    Raises:
        UserError: the text is not valid YAML, or it contains a duplicate key or a tag that would run code.
    """
    try:
        return yaml.load(text, _OptionLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character {printable(chr(error.character))} is not allowed; remove it"
        raise UserError(f"{source}, line {line}: {problem}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        raise UserError(f"{where}: {getattr(error, 'problem', None) or error}") from error


def read(path_or_name: Path | str) -> dict[str, Any]:
    """Read an option file, given its path or the name of a shipped option file (see `find`).

    Raises:
        UserError: `find` or `parse` fails, the file is not a text file, or its content is not a mapping.
    """
    path = find(str(path_or_name))
    options = parse(read_text(path), str(path))
    if not isinstance(options, dict):
        got = "an empty file" if options is None else type(options).__name__
        raise UserError(f"{path} must contain a mapping of options; got {got}")
    return options


def read_text(path: Path) -> str:
    """Return the text of an option file. Its encoding is UTF-8, or UTF-16 with a byte order mark.

    Raises:
        UserError: the file has another encoding, is not a text file, or is too large for an option file.
    """
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise UserError(f"{path} is not an option file, because it has more than {_MOST_BYTES:,} bytes")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not data.startswith(codecs.BOM_UTF32_LE)
    if b"\0" in data and not wide:
        raise UserError(f"{path} is not a text file; pass an option file (.yml), or save it as UTF-8")
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: the text is not UTF-8; save the file as UTF-8 in your editor") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def dump(options: dict[str, Any]) -> str:
    """Return the options as YAML text that both `parse` and BasicSR's loader can read."""
    return yaml.dump(options, Dumper=_OptionDumper, sort_keys=False, default_flow_style=None, allow_unicode=True)


def override(
    options: dict[str, Any],
    entries: Iterable[str],
    addable: Callable[[dict[str, Any], list[str]], Mapping[str, bool]] = lambda options, keys: {},
) -> None:
    """Change options in place with `--force_yml` entries such as `train:optim_g:lr=1e-3`.

    Args:
        options: content of an option file.
        entries: texts of the form key:key=value, where the value is YAML.
        addable: function such as `check.addable`. It returns a dict with the names of the options that entries may
            add to a section. If the dict contains the name `*`, entries may add an option with any name, but only
            with a mapping as its value. By default, entries may add nothing.

    Raises:
        UserError: an entry does not have this form; or its key is not in the file and must not be added.
    """
    for entry in entries:
        key_path, equals, text = entry.partition("=")
        keys = [key.strip() for key in key_path.split(":")]
        if not equals or not all(keys):
            raise UserError(f"--force_yml must be key:key=value, such as train:optim_g:lr=1e-3; got {entry!r}")
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
            target = target.get(key)  # None: an option that may be added, but has no section below it


def shipped_folder() -> Path:
    """Return the folder of the shipped option files: han_arch/options if installed, options/ in a checkout.

    Raises:
        FileNotFoundError: neither folder contains option files.
    """
    package = Path(__file__).parents[1]
    for candidate in (package / "options", package.parent / "options"):
        if any(candidate.glob("*.yml")):
            return candidate
    raise FileNotFoundError(
        f"found no option files (*.yml) in {package}/options or {package.parent}/options; install the package again"
    )


def shipped_files() -> dict[str, Path]:
    """Return the paths of the shipped option files, keyed and sorted by file name."""
    return {path.name: path for path in sorted(shipped_folder().glob("*.yml"))}


def run_names() -> list[str]:
    """Return the file names of the shipped option files for `basicsr train` and `basicsr test`."""
    return [name for name in shipped_files() if not name.startswith("leaderboard_")]


def shipped_titles() -> dict[str, str]:
    """Return the titles (first lines) of the shipped option files, keyed by file name."""
    titles = {name: path.read_text("utf-8").partition("\n")[0] for name, path in shipped_files().items()}
    return {name: title.removeprefix("#").strip() for name, title in titles.items()}


def copy_shipped(name: str, target: str) -> list[Path]:
    """Copy a shipped option file, or all files if the name is "all". Return the paths of the copies.

    The target is a file or a folder. To copy a single file into a new folder, end the target with `/`. The copies
    contain the path of the JSON schema in the package, so that editors find the schema.

    Raises:
        UserError: the shipped option file does not exist, or a copy would overwrite a file.
    """
    sources = list(shipped_files().values()) if name == "all" else [find(name)]
    into_folder = name == "all" or Path(target).is_dir() or target.endswith("/")
    pairs = {(Path(target) / source.name if into_folder else Path(target)): source for source in sources}
    existing = [str(path) for path in pairs if path.exists()]
    if existing:
        raise UserError(f"the copy would overwrite {', '.join(existing)}; choose another target or delete these files")
    schema = (shipped_folder() / "schema.json").resolve().as_uri()
    for path, source in pairs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, source.read_text("utf-8").replace("$schema=schema.json", f"$schema={schema}"))
    return list(pairs)
