"""The version of this package and the Git commit of its checkout. setup.py reads the version from this file."""

import subprocess
from pathlib import Path

__version__ = "0.1.0"


def commit() -> str:
    """Return the Git commit of this package's checkout, or "" if the package is not in a checkout.

    A "+" at the end means that files of the checkout differ from the commit.
    """
    folder = Path(__file__).parent
    # site-packages may be inside the checkout of another project; that checkout does not track our files.
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
