"""Check the contents of the wheel, and use it after installation."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

DATA_SUFFIXES = {".csv", ".html", ".js", ".css", ".json", ".md", ".safetensors"}


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        pytest.skip("this is not a Git checkout, so Git cannot list the files of the project")
    for name in listed.stdout.splitlines():
        if (repository / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((repository / name).read_bytes())
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_contents(wheel: Path, repository: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"han_arch/options/{path.name}" for path in (repository / "options").glob("*.yml")} <= names
    assert "han_arch/options/schema.json" in names
    python_files = {str(path.relative_to(repository)) for path in (repository / "han_arch").rglob("*.py")}
    assert python_files <= names
    others = [path for path in (repository / "han_arch").rglob("*") if path.is_file() and path.suffix in DATA_SUFFIXES]
    assert {str(path.relative_to(repository)) for path in others} <= names
    assert len(others) >= 2
    assert "han_arch/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"han_arch"}
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert 'Requires-Dist: basicsr==1.4.2; python_version < "3.13"' in metadata
    assert "Requires-Dist: tensorboard" not in metadata


def test_installed_wheel_has_the_options(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", "import sys, han_arch; from han_arch.cli import main; print(han_arch.__file__); main()",
         "options", "list"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert str(tmp_path / "site") in done.stdout, done.stderr
    assert "train_HAN_x4.yml" in done.stdout


def test_installed_wheel_has_the_small_networks(wheel: Path, tmp_path: Path) -> None:
    """`load_model("han-s-x4")` works without internet access, BasicSR and a cache folder."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise OSError('no internet access')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "sys.modules['basicsr'] = None\n"
        "import torch, han_arch\n"
        "print(han_arch.__file__)\n"
        "for scale in (2, 3, 4):\n"
        "    print(tuple(han_arch.load_model(f'han-s-x{scale}')(torch.rand(1, 3, 8, 9)).shape))\n"
    )
    assert (tmp_path / "site" / "han_arch" / "speed" / "winograd" / "kernels.c").is_file()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HAN_ARCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    first, *shapes = done.stdout.splitlines()
    assert first.startswith(str(tmp_path / "site")), done.stderr
    assert shapes == ["(1, 3, 16, 18)", "(1, 3, 24, 27)", "(1, 3, 32, 36)"], done.stderr
    assert not (tmp_path / "cache").exists()
