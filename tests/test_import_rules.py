"""Who may import whom: the table of the architecture, held by reading every file's imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "han_arch"

# Room (a folder, or a file at the top) -> rooms it may import. Everybody may import errors and compat.
ALLOWED = {
    "archs": set(),
    "data": {"download", "unpack", "registration"},
    "inference": {"archs", "export", "winograd"},
    "zoo": {"archs", "cache", "download"},
    "models": {"archs", "inference", "winograd", "zoo"},
    "evaluation": {"archs", "inference", "zoo", "data"},
    "training": {"allocator", "archs", "inference", "winograd", "zoo", "models", "evaluation", "data"},
    "release": {"archs", "data", "evaluation", "models", "training", "zoo"},
    "registration": {"archs", "models"},
    "export": {"archs", "zoo"},
    "inspection": {"archs", "zoo", "data"},
    "spandrel": {"archs", "zoo"},
    "bench": {"allocator", "archs", "inference", "zoo", "export", "winograd"},
    "doctor": {"archs", "training", "winograd", "zoo"},
    "download": set(),
    "unpack": set(),
    "allocator": set(),
    "errors": set(),
    "cache": set(),
    "winograd": {"cache"},
    "compat": set(),
}
EVERYBODYS = {"errors", "compat"}
TORCH_ONLY_THIRD_PARTY = {"torch"}
NEVER_BASICSR = {
    "archs",
    "winograd",
    "cache",
    "inference",
    "zoo",
    "export",
    "inspection",
    "spandrel",
    "errors",
    "download",
    "unpack",
}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def our_rooms(modules: set[str]) -> set[str]:
    rooms = {module.split(".")[1] for module in modules if module.startswith("han_arch.")}
    return {room for room in rooms if (PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file()}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) not in ("__init__", "__main__", "cli"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} has no row in the table"
    modules = imported_modules(path)
    forbidden = our_rooms(modules) - ALLOWED[room] - EVERYBODYS - {room}
    assert not forbidden, f"{room} must not import {', '.join(sorted(forbidden))}"
    third_party = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"han_arch"}
    if room == "archs":
        assert third_party <= TORCH_ONLY_THIRD_PARTY
        assert not our_rooms(modules) - {"archs"}, "archs imports torch and itself only"
    if room in NEVER_BASICSR:
        assert "basicsr" not in third_party
    assert not {"scripts", "tests"} & third_party


def test_no_cycles_between_rooms() -> None:
    graph: dict[str, set[str]] = {}
    for path in FILES:
        room = room_of(path)
        graph.setdefault(room, set()).update(our_rooms(imported_modules(path)) - {room})

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, " -> ".join([*way, room])
        for following in graph.get(room, ()):
            visit(following, (*way, room))

    for room in graph:
        visit(room, ())


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_importing_the_package_costs_neither_torch_nor_basicsr() -> None:
    done = run_python("import sys, han_arch; print([m for m in ('torch', 'basicsr', 'numpy') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_network_works_with_basicsr_absent() -> None:
    """A finder that refuses BasicSR stands for a machine without it."""
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
