"""The rules of the architecture that hold for names: one name, one thing; tests use public names alone."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "han_arch"
ROLES = {"command", "report", "measure", "checking", "writing", "experiment"}
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))
MOST_LINES = 300


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def test_a_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name.strip("_")].append(str(path.relative_to(PACKAGE)))
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_a_role_names_one_file_at_most() -> None:
    stems = [path.stem for path in PACKAGE.rglob("*.py")]
    assert not {stem for stem in ROLES if stems.count(stem) > 1}


def test_no_module_of_the_package_looks_like_a_test() -> None:
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem.startswith("test_") or path.stem.endswith("_test")]


def test_files_are_short_enough_to_read() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert not {path: length for path, length in lengths.items() if length > MOST_LINES}


def private_names(path: Path) -> Iterator[str]:
    """Private names of the package that a test file imports, reads or replaces."""
    tree = tree_of(path)
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "han_arch":
            ours |= {alias.asname or alias.name for alias in node.names}
            yield from (f"{node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and root_of(node.value) in ours:
            yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("setattr", "delattr"):
            names = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            is_ours = root_of(node.args[0]) in ours or (names and names[0].startswith("han_arch."))
            if is_ours and any(is_private(part) for part in ".".join(names).split(".")):
                yield f"{node.lineno}: {ast.unparse(node)[:80]}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def root_of(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(REPOSITORY / "tests")))
def test_tests_use_public_names_alone(path: Path) -> None:
    assert not list(private_names(path))
