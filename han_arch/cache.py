"""The user's folder for what can be made or fetched again: weights of the zoo, compiled kernels."""

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "HAN_ARCH_CACHE"


def cache_folder() -> Path:
    """Where it is; $HAN_ARCH_CACHE moves it."""
    moved = os.environ.get(CACHE_VARIABLE)
    if moved:
        return Path(moved).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "han_arch"
