"""Find and copy the option files that come with the package."""

from pathlib import Path

from han_arch import errors, files
from han_arch.errors import UserError


def folder() -> Path:
    """Return the folder of the shipped option files: han_arch/options if installed, options/ in a checkout.

    Raises:
        FileNotFoundError: neither exists.
    """
    package = Path(__file__).parents[1]
    for candidate in (package / "options", package.parent / "options"):
        if any(candidate.glob("*.yml")):
            return candidate
    raise FileNotFoundError(f"the option files are missing: no .yml in {package}/options or {package.parent}/options")


def names() -> list[str]:
    """Return the file names of the shipped option files, sorted."""
    return sorted(path.name for path in folder().glob("*.yml"))


def run_names() -> list[str]:
    """Return the names for `basicsr train` and `basicsr test`, without those for `basicsr leaderboard`."""
    return [name for name in names() if not name.startswith("leaderboard_")]


def titles() -> dict[str, str]:
    """Return the first line of every shipped option file by its name."""
    first = {name: (folder() / name).read_text("utf-8").partition("\n")[0] for name in names()}
    return {name: line.removeprefix("#").strip() for name, line in first.items()}


def find(path_or_name: str) -> Path:
    """Return the option file for `-opt`: a path, or a shipped name with or without `options/` and `.yml`.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path_or_name)
    if path.is_file():
        return path
    wanted = f"{path.name.removesuffix('.yml')}.yml"
    # In another folder than options/ the user means a file of that folder, never a shipped one.
    if wanted in names() and str(path.parent) in (".", "options"):
        return folder() / wanted
    raise UserError(
        f"no option file {path_or_name!r}: neither a path from {Path.cwd()} nor a shipped name; "
        f"{errors.hint(wanted, names())} (`basicsr options list` lists them all)"
    )


def copy(name: str, target: str) -> list[Path]:
    """Copy a shipped option file, or all; the copies refer to the schema of the package.

    Args:
        name: a name as for `find`, or "all".
        target: a file, or a folder; a folder that does not exist yet ends with `/`.

    Returns:
        The new files.

    Raises:
        UserError: no such shipped file, or a new file exists already.
    """
    sources = [folder() / one for one in names()] if name == "all" else [find(name)]
    into_folder = name == "all" or Path(target).is_dir() or target.endswith("/")
    pairs = {(Path(target) / source.name if into_folder else Path(target)): source for source in sources}
    existing = [str(path) for path in pairs if path.exists()]
    if existing:
        raise UserError(f"would overwrite {', '.join(existing)}; choose another target or remove it")
    schema = (folder() / "schema.json").resolve().as_uri()
    for path, source in pairs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, source.read_text("utf-8").replace("$schema=schema.json", f"$schema={schema}"))
    return list(pairs)
