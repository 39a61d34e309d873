"""Files that are written whole or not at all."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch


def save_atomically(content: Any, path: str | Path) -> None:
    """`torch.save` beside the path, then rename: a reader sees the old file or the whole new one.

    Raises:
        OSError, RuntimeError: it could not be written; the old file stays.
    """
    path = Path(path)
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
