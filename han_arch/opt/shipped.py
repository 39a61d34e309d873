"""The option files that come with the package: where they are, their names, finding one by name."""

import difflib
from pathlib import Path

import han_arch
from han_arch.errors import UserError


def folder() -> Path:
    """The folder of the shipped option files: han_arch/options when installed, options/ beside it in a checkout.

    Raises:
        FileNotFoundError: neither exists.
    """
    package = Path(han_arch.__file__).parent
    for candidate in (package / "options", package.parent / "options"):
        if any(candidate.glob("*.yml")):
            return candidate
    raise FileNotFoundError(
        f"the option files are missing: neither {package}/options nor its checkout's options/ has any"
    )


def names() -> list[str]:
    """File names of the shipped option files, sorted."""
    return sorted(path.name for path in folder().glob("*.yml"))


def run_names() -> list[str]:
    """Those of `basicsr train` and `basicsr test`: without `basicsr leaderboard`'s."""
    return [name for name in names() if not name.startswith("leaderboard_")]


def find(path_or_name: str) -> Path:
    """The file that `-opt` means: a path, or else a shipped name with or without `options/` and `.yml`.

    Raises:
        UserError: there is no such file; close names are given.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    wanted = f"{path.name.removesuffix('.yml')}.yml"
    known = names()
    # A folder other than options/ means a file of the user's own: a shipped one of that name must not stand in for it.
    if wanted in known and str(path.parent) in (".", "options"):
        return folder() / wanted
    close = difflib.get_close_matches(wanted, known, n=3)
    hint = f"close shipped names: {', '.join(close)}" if close else "`basicsr options list` shows the shipped ones"
    raise UserError(f"no option file {path_or_name!r}, as a path from {Path.cwd()} or as a shipped name; {hint}")
