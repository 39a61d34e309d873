"""The kernels compile once for this processor. A machine that cannot compile them gives a clear error."""

import os
import platform
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from han_arch.errors import UserError
from han_arch.speed.winograd import native, no_compiler

CHECK = """
import torch
from torch.nn import functional as F
from han_arch.speed.winograd.convolution import conv3x3
x, weight = torch.randn(2, 32, 9, 50), torch.randn(48, 32, 3, 3).requires_grad_()
out, wanted = conv3x3(x, weight), F.conv2d(x, weight, padding=1)
assert (out - wanted).abs().max() < 1e-3
assert ((torch.autograd.grad(out.sum(), weight)[0] - torch.autograd.grad(wanted.sum(), weight)[0]).abs() < 1e-2).all()
print("right")
"""


def check(cache: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "HAN_ARCH_CACHE": str(cache), **environment}
    return subprocess.run([sys.executable, "-c", CHECK], env=variables, capture_output=True, text=True, timeout=100)


def compiled(cache: Path) -> list[Path]:
    return sorted((cache / f"kernels-{os.getuid()}").iterdir())


@pytest.mark.usefixtures("winograd_compiler")
def test_compiles_once_and_again_after_damage(tmp_path: Path) -> None:
    assert check(tmp_path).stdout == "right\n"
    (library,) = compiled(tmp_path)
    first = library.stat().st_mtime_ns
    assert check(tmp_path).stdout == "right\n"
    assert library.stat().st_mtime_ns == first
    library.write_bytes(b"not a library")
    assert check(tmp_path).stdout == "right\n"
    assert compiled(tmp_path) == [library]
    assert library.stat().st_size > 1000


@pytest.mark.usefixtures("winograd_compiler")
def test_loads_nothing_from_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    assert check(tmp_path).stdout == "right\n"
    (library,) = compiled(tmp_path)
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    planted = b"another user's library"
    library.write_bytes(planted)
    library.parent.chmod(0o777)
    assert check(tmp_path).stdout == "right\n"
    assert library.read_bytes() == planted, "it was replaced"


@pytest.mark.slow
@pytest.mark.usefixtures("winograd_compiler")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86_64 processor")
@pytest.mark.parametrize(("without", "feature"), [("-mno-avx512f", "avx512f"), ("-mno-avx512f -mno-avx2", "avx2")])
def test_older_processors(tmp_path: Path, without: str, feature: str) -> None:
    """The source also works with registers half and a quarter as wide; each build has a different file name."""
    assert check(tmp_path).stdout == "right\n"
    done = check(tmp_path, CC=f"cc {without}")
    assert done.stdout == "right\n", done.stderr
    differs = not Path("/proc/cpuinfo").exists() or feature in Path("/proc/cpuinfo").read_text()
    assert len(compiled(tmp_path)) == (2 if differs else 1)


@pytest.mark.slow
@pytest.mark.usefixtures("winograd_compiler")
def test_several_processes_at_once(tmp_path: Path) -> None:
    variables = {**os.environ, "HAN_ARCH_CACHE": str(tmp_path)}
    runs = [
        subprocess.Popen([sys.executable, "-c", CHECK], env=variables, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [run.communicate(timeout=100)[0] for run in runs] == ["right\n"] * 3
    assert len(compiled(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("winograd_compiler")
def test_an_unusable_cache_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = check(tmp_path / "file" / "cache")
    assert done.stdout == "right\n", done.stderr


def refusal(tmp_path: Path, **environment: str) -> str:
    """Run `basicsr upscale --winograd`; return its one-line error. The status is 2, and no output file is written."""
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((8, 8, 3), np.uint8))
    command = [sys.executable, "-m", "han_arch", "upscale", "photo.png", "-o", "large.png", "--winograd"]
    variables = {**os.environ, "HAN_ARCH_CACHE": str(tmp_path / "cache"), **environment}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2, done.stderr
    assert not (tmp_path / "large.png").exists()
    assert not (tmp_path / "cache").exists()
    (line,) = done.stderr.splitlines()
    return line


def test_no_compiler_on_the_path(tmp_path: Path) -> None:
    line = refusal(tmp_path, PATH=str(tmp_path), CC="")
    assert all(part in line for part in ("Winograd", *native.COMPILERS, "PATH", "install gcc"))


def test_find_compiler_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "")
    assert "none of cc" in str(no_compiler())
    for name in ("clang", "gcc", "mine"):
        script = tmp_path / name
        script.write_text('#!/bin/sh\ntouch "$0.was_run"\n')
        script.chmod(0o700)
    assert native.find_compiler() == ["gcc"]
    monkeypatch.setenv("CC", "mine -O1")
    assert native.find_compiler() == ["mine", "-O1"]
    assert not list(tmp_path.glob("*.was_run"))


@pytest.mark.parametrize("chosen", ["no-such-compiler", "/tmp", '"'])
def test_cc_names_no_compiler(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", chosen)
    native.library.cache_clear()
    assert f"CC is {chosen!r}" in str(no_compiler())
    with pytest.raises(UserError, match="install gcc") as caught:
        native.library()
    assert f"CC is {chosen!r}" in str(caught.value)


@pytest.mark.slow
def test_no_usable_folder_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    missing = str(tmp_path / "file" / "x")
    code = CHECK.replace("import torch\n", "import tempfile, torch\ntempfile.tempdir = '" + missing + "'\n", 1)
    variables = {**os.environ, "HAN_ARCH_CACHE": missing}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=100)
    assert "han_arch.errors.UserError" in done.stderr
    assert missing in done.stderr
    assert "temporary folder" in done.stderr


def test_a_failing_compiler(tmp_path: Path) -> None:
    script = tmp_path / "cc"
    script.write_text("#!/bin/sh\necho 'cc: error: unrecognized option -fopenmp' >&2\nexit 1\n")
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    line = refusal(tmp_path, CC=str(script))
    assert all(part in line for part in (str(script), "cc: error: unrecognized option -fopenmp", "install gcc"))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, which checks the source strictly")
def test_the_source_has_no_warnings(tmp_path: Path) -> None:
    strict = ["-Wall", "-Wextra", "-Werror"]
    command = ["gcc", *native.OPTIONS, *strict, "-c", str(native.SOURCE), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
