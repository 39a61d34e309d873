"""`program.run`: an error of the user or of the system is one line and a status; output never fails for its names."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from han_arch import errors, files, program
from han_arch.errors import UserError


def failing(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


SYSTEM = {
    "full disk": (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.png"), ("a.png", "No space", "free")),
    "no permission": (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "a.png"), ("a.png", "permissions")),
    "long name": (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "a" * 300), ("aaa", "shorter")),
    "two names": (OSError(errno.EXDEV, "Invalid cross-device link", "a", None, "b"), ("a -> b",)),
    "bytes": (NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), b"K\xf6ln/a"), ("K\\udcf6ln/a",)),
    "no number": (OSError("cannot write\nthe image"), ("cannot write the image",)),
    "our text": (FileNotFoundError("x.png does not exist; correct the path"), ("x.png", "correct the path")),
    "no memory": (MemoryError(), ("out of memory",)),
    "no GPU memory": (RuntimeError("CUDA out of memory. Tried to allocate 1 GiB"), ("CUDA out of memory", "smaller")),
    "another file": (FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), "a"), ("a: File exists", "another name")),
    "too many open files": (RuntimeError("received 0 items of ancdata"), ("items of ancdata", "ulimit -n")),
    "another package": (KeyError("mdb_txn_commit: No space left on device"), ("mdb_txn_commit", "free some space")),
}


@pytest.mark.parametrize("kind", SYSTEM)
def test_errors_of_the_system_are_one_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, parts = SYSTEM[kind]
    assert program.run("basicsr demo", failing(error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("basicsr demo: error: ")
    assert all(part in line for part in parts), line


def test_a_long_text_that_cannot_be_encoded_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("x", lambda: len(("\udcf6" + "a" * 9999).encode())) == 2
    error = capsys.readouterr().err
    assert error.startswith(r"x: error: \udcf6aaa")
    assert "cannot be encoded; rename" in error
    assert len(error) < 400


def test_faults_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(KeyError, match="a fault"):
        program.run("basicsr demo", failing(KeyError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        program.run("basicsr demo", failing(RuntimeError("a fault")))


def test_other_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("x", lambda: 3) == 3
    assert program.run("x", failing(KeyboardInterrupt())) == 130
    assert program.run("x", failing(UserError("first:\n  second"))) == 2
    assert capsys.readouterr().err == "x: interrupted\nx: error: first:\n  second\n"
    with pytest.raises(SystemExit):
        program.run("x", failing(SystemExit(0)))


@pytest.mark.parametrize(
    "name", ["a\nbasicsr: all good", "\x1b[2Ka", "\u202egnp.a", "K\udcf6ln", "a\r", "\x9b", "a\u2028"]
)
def test_names_cannot_disturb_a_terminal_or_forge_a_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run("x", failing(UserError(f"{name} is wrong"))) == 2
    assert program.run("x", failing(FileNotFoundError(2, "No such file", name))) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 2
    for line in error.split("\n"):
        assert line == "" or line.startswith("x: error: ")
        assert line.isprintable()


@pytest.mark.parametrize("name", ["photo 1.png", "Größe.png", "写真\u3000.png", "a\u0301.png"])
def test_usual_names_stay(name: str) -> None:
    assert errors.printable(name) == name


def test_what_an_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252", errors="strict"))
    assert program.run("x", lambda: sys.stdout.write("写 K\udcf6ln ö\n") * 0) == 0
    assert raw.getvalue() == b"\\u5199 K\\udcf6ln \xf6\n"


def test_a_closed_stream_is_not_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert program.run("x", lambda: sys.stdout.write("text\n") * 0) == 0
    assert program.run("x", failing(UserError("text"))) == 2


def test_torch_s_own_error_for_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work() -> int:
        torch.save({"a": torch.zeros(9)}, Full())
        return 0

    assert program.run("x", work) == 2
    assert "No space left" in capsys.readouterr().err


class Damaged(torch.utils.data.Dataset):
    """A data set whose images cannot be used."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise self.error from ValueError("the cause")


@pytest.mark.parametrize("error", [UserError("a.png is damaged"), PermissionError(13, "Permission denied", "a.png")])
def test_an_error_of_a_data_worker_is_its_message(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    loader = torch.utils.data.DataLoader(Damaged(error), num_workers=1)
    assert program.run("x", lambda: len(list(loader))) == 2
    output = capsys.readouterr().err
    assert output.splitlines() == [f"x: error: {error}"]


def test_a_write_error_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"missing.a\.txt") as raised:
        files.write(tmp_path / "missing" / "a.txt", "text")
    assert ".part" not in errors.one_line(raised.value)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as raised:
        files.write(tmp_path / "folder", "text")
    assert ".part" not in errors.one_line(raised.value)

    def fill() -> None:
        with files.replacing(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"a\.txt"):
        fill()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def basicsr(words: str, redirection: str) -> tuple[int, str]:
    """Run `basicsr` in a shell; return its exit status and what it wrote on standard error."""
    script = f"{{ {sys.executable} -m han_arch {words}; echo status $? >&2; }} {redirection}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
    *lines, status = done.stderr.splitlines()
    return int(status.removeprefix("status ")), "\n".join(lines)


@pytest.mark.skipif(sys.platform != "linux", reason="the test needs /dev/full")
def test_output_that_cannot_be_written() -> None:
    status, error = basicsr("options list", "> /dev/full")
    assert status == 2
    assert "standard output: No space left on device" in error
    assert len(error.splitlines()) == 1
    assert basicsr("options schema", "| true") == (1, "")
    assert basicsr("options list", ">&-") == (0, "")
