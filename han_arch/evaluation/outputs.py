"""Write results into a folder that a user chose, without replacing a file that the user wrote or edited.

A hidden record in the folder stores the SHA-256 of every file that this module wrote. Any other file is the user's.
Earlier versions kept no record. Their files are known by their beginnings, and stay under another name.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from han_arch import files
from han_arch.errors import UserError

logger = logging.getLogger("han_arch")

RECORD = ".han_arch_results.json"  # file name -> SHA-256 of the contents that this module wrote, the newest last
# The beginnings of the files of leaderboards, of the ablation and of `basicsr bench`.
_EARLIER = re.compile(
    rb"model,(variant,)?set,image|model,seed,set,|case,network,unit,|# [^\n]*\n\n(## Protocol: |Scale x4, trained on )"
    rb"|[^\n]+ threads, [^\n]+; PyTorch |<!doctype html>.{,400}content=\"default-src 'none'; img-src data: blob:"
    rb"|\x89PNG.{,60}Software\0Matplotlib",
    re.DOTALL,
)
_BEGINNING = 1000  # bytes


def check(folder: Path, names: Iterable[str]) -> None:
    """Check that all files with these names in a folder are absent, or were written by `write` or an earlier version.

    Raises:
        UserError: the user wrote or edited one of these files. The message lists all of them, one per line.
    """
    known = _read_record(folder)
    foreign = [folder / name for name in names if not _is_ours(folder / name, known)]
    if foreign:
        raise UserError(
            "\n  ".join(
                [
                    "the results would replace these files, which this program did not write or somebody edited; move "
                    "them, or choose another folder:",
                    *map(str, foreign),
                ]
            )
        )


def write(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files into a folder, each completely or not at all. `contents` maps file names to contents.

    A file of an earlier version, which somebody may have edited, stays as NAME-HASH8. A warning in the log says so.

    Raises:
        UserError: the user wrote or edited one of these files. No file is written.
    """
    check(folder, contents)
    data = {name: files.encode(content) for name, content in contents.items()}
    known = _read_record(folder)
    for name, one in data.items():
        path, new = folder / name, hashlib.sha256(one).hexdigest()
        old = [files.hash_file(path)] if path.exists() else []
        if old and old[0] not in (new, *known.get(name, [])):
            kept = path.with_name(f"{path.stem}-{old[0][:8]}{path.suffix}")
            os.replace(path, kept)
            logger.warning("an earlier version wrote %s; the file is kept as %s", path, kept.name)
        known[name] = [*old, new]
    # Write the record first: if this process is killed now, the next run still knows its files.
    files.write(folder / RECORD, files.json_text(known, indent=1) + "\n")
    for name, one in data.items():
        files.write(folder / name, one)


def _read_record(folder: Path) -> dict[str, list[str]]:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        return {str(name): list(map(str, hashes)) for name, hashes in record.items()}
    except Exception:  # the record is missing or foreign, and no file counts as ours
        return {}


def _is_ours(path: Path, known: Mapping[str, list[str]]) -> bool:
    if not path.is_symlink() and not path.exists():
        return True
    try:
        if path.is_symlink() or not path.is_file():
            return False
        if path.name in known:
            return files.hash_file(path) in known[path.name]
        with path.open("rb") as file:
            return bool(_EARLIER.match(file.read(_BEGINNING)))
    except OSError:
        return False
