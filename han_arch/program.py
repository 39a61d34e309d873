"""Run a program, such as the `basicsr` command or a script, and turn its errors into messages and exit statuses."""

import contextlib
import errno
import io
import os
import re
import select
import sys
from collections.abc import Callable
from typing import TextIO

from han_arch.errors import UserError, one_line, printable

STANDARD_OUTPUT = "standard output"  # name of the file in an error of the system
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")  # texts of PyTorch's allocators
_TOO_MANY_FILES = "items of ancdata"  # text of multiprocessing if a process cannot open what another one sent
# A data worker of PyTorch raises the exception again, with its traceback as the message.
_OF_A_WORKER = re.compile(r"Caught \w+ in .*\nOriginal .*\n[\w.]+: (?P<message>.*)", re.DOTALL)
_LONGEST = 200  # letters of a message of another package
_OF_THE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.EACCES)


def run(name: str, work: Callable[[], int]) -> int:
    """Call `work` and return its exit status.

    An error of the user or of the operating system becomes a message on standard error, and the exit status is 2. If
    the program that reads the output has closed the pipe, as `head` does, the exit status is 1 without a message.
    Ctrl-C gives 130. Characters that standard output and standard error cannot encode are escaped.

    Args:
        name: name of the program, for the messages.
        work: the program. It returns an exit status.

    Raises:
        SystemExit: `work` raised it, for example because it printed its help text.
    """
    _prepare_streams()
    fault: BaseException | None = None
    status = 2
    try:
        status = work()
    except (SystemExit, KeyboardInterrupt, Exception) as error:
        fault = error
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence(sys.stdout)  # otherwise Python prints an error at exit
        nameless = isinstance(fault, (SystemExit, OSError)) and getattr(fault, "filename", None) is None
        if fault is None or nameless:
            error.filename = STANDARD_OUTPUT
            fault = error
    if fault is None:
        return status
    if isinstance(fault, BrokenPipeError) and (fault.filename == STANDARD_OUTPUT or _reader_is_gone()):
        return 1
    message = _message(fault)
    if message is None:
        raise fault
    try:
        sys.stderr.write(f"{name}: {message}\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)
    return 130 if isinstance(fault, KeyboardInterrupt) else 2


def _message(fault: BaseException) -> str | None:
    """Return the message for an error of the user or of the system, or None for a fault of the program."""
    if isinstance(fault, KeyboardInterrupt):
        return "interrupted"
    if isinstance(fault, (OSError, UserError)) and (found := _OF_A_WORKER.fullmatch(str([*fault.args, ""][0]))):
        return f"error: {UserError(found['message'].strip())}"
    if isinstance(fault, (OSError, UnicodeEncodeError)):
        return f"error: {one_line(fault)}"
    if isinstance(fault, UserError):
        return f"error: {fault}"
    cause, text = fault.__context__, " ".join(str(fault).split())
    # PyTorch, LMDB and others raise their own exceptions for an error of the system.
    if isinstance(cause, OSError) and cause.errno in _OF_THE_SYSTEM:
        return f"error: {one_line(cause)}"
    for number in _OF_THE_SYSTEM:
        if os.strerror(number) in text or (number == errno.EMFILE and _TOO_MANY_FILES in text):
            return f"error: {one_line(OSError(number, text[:_LONGEST]))}"
    if isinstance(fault, MemoryError) or any(words in text.lower() for words in _OUT_OF_MEMORY):
        reason = f" ({printable(text[:_LONGEST])})" if text else ""
        return f"error: out of memory{reason}; use smaller images, crops, batches or networks"
    return None


def _prepare_streams() -> None:
    # A stream that the caller closed is None. The null device takes its number, so that no file of ours gets it.
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    with contextlib.suppress(OSError):  # a stream without a file descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _reader_is_gone() -> bool:
    if not hasattr(select, "poll"):
        return True
    pipes = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            pipes.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in pipes.poll(0))
