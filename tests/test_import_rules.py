"""Check which room imports which: read the imports of every file and compare them with the order of rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "han_arch"

# A room is a folder or a file at the top of the package. A room may import itself and the rooms before it.
ORDER = [
    "errors",
    "program",
    "version",
    "compat",
    "locks",
    "files",
    "names",
    "archs",
    "speed",
    "remote",
    "download",
    "unpack",
    "images",
    "zoo",
    "spandrel",
    "inference",
    "export",
    "data",
    "models",
    "registration",
    "inspection",
    "evaluation",
    "opt",
    "training",
    "release",
    "bench",
    "commands",
    "cli",
    "__main__",
    "__init__",
]
TORCH_ONLY = {"archs", "speed"}
NEVER_BASICSR = {*ORDER[: ORDER.index("data")], "inspection"} - {"compat"}
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = ("han_arch", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in FILES}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def uses_bare_package(source: str) -> bool:
    """Whether a source file imports `han_arch` itself, or a name from it that is not a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.asname is None or alias.name == "han_arch"]
            found = any(name.split(".")[0] == "han_arch" for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module == "han_arch":
            found = any(f"han_arch.{alias.name}" not in MODULES for alias in node.names)
        else:
            continue
        if found:
            return True
    return False


def our_modules(names: set[str]) -> set[str]:
    """Return the modules of han_arch among the imported names."""
    return {name for name in names if name in MODULES and name != "han_arch"}


def test_modules_import_each_other_by_their_full_names() -> None:
    for source in ("import han_arch", "import han_arch.archs.fused", "from han_arch import HAN"):
        assert uses_bare_package(source), source
    for source in ("import han_arch.archs.fused as fused", "from han_arch import compat"):
        assert not uses_bare_package(source), source
    users = {room_of(path) for path in FILES if uses_bare_package(path.read_text("utf-8"))}
    assert users <= {"cli", "__main__", "__init__"}


def test_every_room_has_its_place() -> None:
    assert set(ORDER) == ROOMS
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    room = room_of(path)
    modules = imported_modules(path.read_text("utf-8"))
    allowed = {"archs", "errors"} if room == "archs" else set(ORDER[: ORDER.index(room) + 1])
    forbidden = {name for name in our_modules(modules) if room_of(MODULES[name]) not in allowed}
    assert not forbidden, f"{room} must not import {', '.join(sorted(forbidden))}"
    third_party = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"han_arch"}
    if room in TORCH_ONLY:
        assert third_party <= {"torch"}
    if room in NEVER_BASICSR:
        assert "basicsr" not in third_party
    assert not {"scripts", "tests"} & third_party


def test_only_the_command_line_imports_commands() -> None:
    users = {room_of(path) for path in FILES if "han_arch.commands" in path.read_text("utf-8")}
    assert users <= {"commands", "cli"}


def test_no_circles_of_modules() -> None:
    graph = {
        name: {other for other in our_modules(imported_modules(path.read_text("utf-8"))) if other != name}
        for name, path in MODULES.items()
        if name != "han_arch"
    }
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in finished:
            for following in graph[module]:
                visit(following, (*way, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_importing_the_package_costs_neither_torch_nor_basicsr() -> None:
    done = run_python("import sys, han_arch; print([m for m in ('torch', 'basicsr', 'numpy') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_network_works_with_basicsr_absent() -> None:
    """An import finder that rejects BasicSR simulates a machine without BasicSR."""
    done = run_python(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'basicsr': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch\n"
        "from han_arch import HAN, LAM, CSAM\n"
        "net = HAN(3, 3, num_feat=8, num_group=2, num_block=1, squeeze_factor=4, upscale=2)\n"
        "print(tuple(net(torch.rand(1, 3, 4, 5)).shape), 'basicsr' in sys.modules)\n"
    )
    assert done.stdout.strip() == "(1, 3, 8, 10) False", done.stderr
