"""Check the contents of the wheel, and use it after installation."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

DATA_SUFFIXES = {".csv", ".html", ".js", ".css", ".json", ".md", ".safetensors"}


@pytest.fixture(scope="module")
def release(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that scripts/make_wheel.py fills."""
    folder = tmp_path_factory.mktemp("release")
    command = [sys.executable, str(repository / "scripts" / "make_wheel.py"), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    if "not a Git checkout" in done.stderr:
        pytest.skip("this is not a Git checkout, so Git cannot list the files of the project")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(release: Path) -> Path:
    return next(release.glob("*.whl"))


def test_hashes_of_the_release(release: Path) -> None:
    """SHA256SUMS has the hash of every other file, in the form that sha256sum writes."""
    lines = (release / "SHA256SUMS").read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    others = [path for path in release.iterdir() if path.name != "SHA256SUMS"]
    assert found == {path.name: sha256(path.read_bytes()).hexdigest() for path in others}
    assert sorted(path.suffix for path in others) == [".gz", ".whl"]


def test_source_archive(release: Path) -> None:
    """The wheel can be built from the source archive: it has the options, the kernels and the weights."""
    with tarfile.open(next(release.glob("*.tar.gz"))) as archive:
        names = archive.getnames()
    for name in ("setup.py", "options/train_HAN_x4.yml", "han_arch/speed/winograd/kernels.c"):
        assert any(one.endswith(f"/{name}") for one in names), name
    assert any(name.endswith(".safetensors") for name in names)


def test_bill_of_materials(wheel: Path, repository: Path) -> None:
    """The SBOM is where PEP 770 wants it, and names every requirement of the wheel and the weights in it."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if "/sboms/" in name]
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        bill, lines = json.loads(archive.read(name)), archive.read(metadata).decode().splitlines()
        assert name.endswith(".dist-info/sboms/han_arch.cdx.json")
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        refs = [part["bom-ref"] for part in bill["components"]]
        assert len(refs) == len(set(refs))
        assert bill["dependencies"] == [{"ref": bill["metadata"]["component"]["bom-ref"], "dependsOn": refs}]
        required = {re.match(r"Requires-Dist: ([\w.-]+)", line)[1].lower() for line in lines if "Requires-Dist" in line}
        assert {part["name"] for part in bill["components"] if part["type"] == "library"} == required
        assert "pkg:pypi/basicsr@1.4.2" in refs
        weights = {part["name"]: part for part in bill["components"] if part["type"] == "machine-learning-model"}
        stored = [name for name in archive.namelist() if name.endswith(".safetensors")]
        assert len(weights) == len(stored) >= 3
        for name in stored:
            assert weights[Path(name).stem]["hashes"][0]["content"] == sha256(archive.read(name)).hexdigest()


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
