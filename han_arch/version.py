"""The version of this package, which setup.py reads from here, and the commit of its checkout."""

import subprocess
from pathlib import Path

__version__ = "0.1.0"


def commit() -> str:
    """Return the commit of the package's checkout, with "+" when files differ from it; "" without a checkout."""
    folder = Path(__file__).parent
    # A package in site-packages may lie inside the checkout of another project, which does not track it.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    head, changed = _git(folder, "rev-parse", "--short=12", "HEAD"), _git(folder, "status", "--porcelain", "-uno")
    return f"{head or ''}{'+' if changed else ''}"


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
