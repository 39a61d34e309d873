"""One hostile input and what the program does with it. Every kind of input uses these functions.

A kind is a module with two functions. `hostile(rng, folder)` writes an input to an empty folder and returns its path.
`check(path, out)` gives the input to the program and returns the outcome in a few words. It raises `Finding` if the
program does something that it must never do. `out` is an empty folder for results.
"""

import contextlib
import io
import os
import random
import traceback
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

MINE = "mine.txt"  # a file of the user in the output folder


class Finding(Exception):
    """The program did something that it must never do with any input."""


def run(*arguments: object) -> tuple[int, str]:
    """Run a `basicsr` command in this process; return its exit status and its output, stdout and stderr together."""
    from han_arch.cli import main

    before = os.getcwd()
    text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            status = main([str(argument) for argument in arguments])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 2
    except BaseException as error:
        raise Finding(f"traceback: {last_lines(error)}") from error
    finally:
        os.chdir(before)
    output = text.buffer.getvalue().decode("utf-8", "backslashreplace")  # type: ignore[attr-defined]
    if "Traceback (most recent call last)" in output:
        raise Finding(f"traceback in the output: {output[-3000:]}")
    if status not in (0, 1, 2):
        raise Finding(f"exit status {status}: {output[-2000:]}")
    if status and not output.strip():
        raise Finding(f"exit status {status} without a word")
    return status, output


def called(function: Callable[..., object], *arguments: object, refusals: tuple[type[Exception], ...]) -> str:
    """Call a function of the program; return "read" or "refused". Any exception but `refusals` is a finding."""
    try:
        function(*arguments)
    except refusals as error:
        if not str(error).strip():
            raise Finding(f"{type(error).__name__} without a message") from error
        return "refused"
    except Exception as error:
        raise Finding(f"traceback: {last_lines(error)}") from error
    return "read"


def last_lines(error: BaseException) -> str:
    """Return the end of a traceback, with the exception."""
    return "".join(traceback.format_exception(error))[-3000:]


@contextlib.contextmanager
def nothing_lost(*folders: Path, written: bool = True) -> Iterator[None]:
    """Raise `Finding` if a file that exists now is changed or gone afterwards, or if something half-written is left.

    With `written` False, new files are a finding too.
    """
    before = {folder: contents(folder) for folder in folders}
    yield
    for folder, files in before.items():
        after = contents(folder)
        if lost := [name for name, digest in files.items() if after.get(name) != digest]:
            raise Finding(f"lost or changed: {lost} in {folder}")
        new = sorted(after.keys() - files.keys())
        if left := [name for name in new if ".part" in name.replace(".partial", "")]:
            raise Finding(f"half-written: {left} in {folder}")
        if new and not written:
            raise Finding(f"new files after a refusal: {new} in {folder}")


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, by its path relative to the folder."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in [*files, *folders]:
            path = Path(place, name)
            if path.is_symlink():
                digest = f"link to {os.readlink(path)}"
            elif path.is_file():
                digest = sha256(path.read_bytes()).hexdigest()
            else:
                digest = "folder" if path.is_dir() else "special"
            found[str(path.relative_to(folder))] = digest
    return found


def only_file(folder: Path) -> Path:
    """Return the one entry of a folder."""
    (path,) = folder.iterdir()
    return path


def resident(field: str) -> int:
    """Return the resident memory of this process in bytes: "VmRSS:" now, "VmHWM:" the peak; 0 if unknown."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def generator(seed: int, kind: str, index: int) -> random.Random:
    """Return the random generator of one input. Each input has its own, so that it can be repeated alone."""
    return random.Random(f"{seed} {kind} {index}")
