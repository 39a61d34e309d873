"""Write results into a folder that a user chose, without replacing a file that the user wrote or edited.

A hidden record in the folder stores the SHA-256 of every file that this module wrote. Any other file is the user's.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from han_arch import files
from han_arch.errors import UserError

RECORD = ".han_arch_results.json"  # file name -> SHA-256 of the contents that this module wrote, the newest last


def check(folder: Path, names: Iterable[str]) -> None:
    """Check that all files with these names in a folder are absent or were written by `write`.

    Raises:
        UserError: the user wrote or edited one of these files. The message lists all of them, one per line.
    """
    known = _read_record(folder)
    foreign = [folder / name for name in names if not _is_ours(folder / name, known.get(name, []))]
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

    Raises:
        UserError: the user wrote or edited one of these files. No file is written.
    """
    check(folder, contents)
    data = {name: files.encode(content) for name, content in contents.items()}
    known = _read_record(folder)
    for name, one in data.items():
        known[name] = [*known.get(name, [])[-1:], hashlib.sha256(one).hexdigest()]
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


def _is_ours(path: Path, known: Iterable[str]) -> bool:
    if not path.is_symlink() and not path.exists():
        return True
    try:
        return path.is_file() and not path.is_symlink() and files.hash_file(path) in known
    except OSError:
        return False
