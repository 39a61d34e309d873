"""Check the files that options name: they exist, `io_backend` can read them, each GT image has its LQ image."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from han_arch.opt.check import Problem
from han_arch.zoo import entry

_ROOTS = ("dataroot_gt", "dataroot_lq")


def check_files(opt: dict[str, Any]) -> list[Problem]:
    """Find problems of the files and folders that the options name.

    Args:
        opt: the options; sections that are not mappings are skipped.
    """
    problems: list[Problem] = []
    for name, dataset in _mapping(opt.get("datasets")).items():
        if isinstance(dataset, dict):
            problems += _check_dataset(f"datasets:{name}", dataset)
    for key, value in _mapping(opt.get("path")).items():
        names_file = str(key).startswith("pretrain_network") or key == "resume_state"
        if isinstance(value, str) and names_file and not (key == "pretrain_network_g" and entry.is_name(value)):
            problems += _missing(f"path:{key}", value)
    return problems


def _check_dataset(where: str, dataset: dict[str, Any]) -> Iterator[Problem]:
    named = [key for key in (*_ROOTS, "meta_info_file") if isinstance(dataset.get(key), str)]
    missing = [problem for key in named for problem in _missing(f"{where}:{key}", dataset[key])]
    yield from missing
    wanted = {"PairedImageDataset": _ROOTS, "SingleImageDataset": _ROOTS[1:]}.get(str(dataset.get("type")))
    if wanted is None:
        return
    lacking = [key for key in wanted if not isinstance(dataset.get(key), str)]
    yield from (Problem(where, f" lacks {key}: a folder, or an .lmdb") for key in lacking if dataset.get(key) is None)
    if missing or lacking:
        return
    counts = {}
    for key in wanted:
        try:
            counts[key] = _count(Path(dataset[key]).expanduser(), dataset)
        except (OSError, UnicodeDecodeError) as error:
            yield Problem(f"{where}:{key}", f": {error}")
            continue
        if counts[key] == 0:
            yield Problem(f"{where}:{key}", f": {dataset[key]!r} has no images; subfolders are not read")
    if len(set(counts.values())) > 1:
        yield Problem(
            where, f" has {counts[_ROOTS[0]]} GT and {counts[_ROOTS[1]]} LQ images; the numbers must be equal"
        )


def _count(root: Path, dataset: dict[str, Any]) -> int:
    """Count the images that BasicSR will find; raise FileNotFoundError if it would fail."""
    if _mapping(dataset.get("io_backend")).get("type") == "lmdb":
        if root.suffix != ".lmdb":
            raise FileNotFoundError(f"io_backend lmdb needs a folder named *.lmdb; got {str(root)!r}")
        listing = root / "meta_info.txt"
        if not listing.is_file():
            raise FileNotFoundError(f"{str(root)!r} is no LMDB of `basicsr data prepare`: meta_info.txt is missing")
        return _lines(listing)
    if (root / "data.mdb").is_file():
        raise FileNotFoundError(f"{str(root)!r} is an LMDB; set io_backend: type: lmdb, or give a folder of images")
    if dataset.get("meta_info_file"):
        return _lines(Path(dataset["meta_info_file"]))
    return sum(1 for path in root.iterdir() if path.is_file() and not path.name.startswith("."))


def _lines(path: Path) -> int:
    return sum(1 for line in path.read_text("utf-8").splitlines() if line.strip())


def _missing(where: str, path: str) -> list[Problem]:
    path = str(Path(path).expanduser())
    hint = "; make data sets with `basicsr data prepare`" if where.startswith("datasets") else ""
    return [] if Path(path).exists() else [Problem(where, f": {path!r} does not exist, from {Path.cwd()}{hint}")]


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
