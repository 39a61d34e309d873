"""Files that are written whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from han_arch.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def told(path: str | Path, *, no_room_only: bool = False) -> Iterator[None]:
    """Context in which the system's refusal to write, such as a full disk, becomes one clear line.

    Args:
        path: what is being written.
        no_room_only: leave other errors as they are, since more than writing happens in the context.

    Raises:
        UserError: the system refused.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save hides the system's error behind one of its own.
        refusal = error if isinstance(error, OSError) else error.__context__
        if not isinstance(refusal, OSError) or (no_room_only and refusal.errno not in _NO_ROOM):
            raise
        raise UserError(
            f"{path} could not be written: {refusal.strerror or refusal}; what was saved before is whole: make room, "
            "then go on with the same command and --auto_resume"
        ) from error


def save_atomically(content: Any, path: str | Path) -> None:
    """`torch.save` beside the path, then rename: a reader sees the old file or the whole new one.

    Raises:
        UserError: it could not be written; the old file stays.
    """
    path = Path(path)
    with told(path):
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(beside, 0o644)  # mkstemp makes files that only their owner reads
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
