"""Unpacks zip files from strangers: nothing outside the target, no links, no bombs, all or nothing."""

import os
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from han_arch.errors import UserError

COUNT_LIMIT = 100_000
RATIO_LIMIT = 200  # images hardly compress; a bomb does, by a thousand and more
CHUNK = 2**20


class UnsafeArchive(UserError):
    """The archive is damaged or holds what a data set does not; nothing of it was kept."""


def unpack_zip(archive: Path, target: Path, limit: int, members: str | None = None) -> Path:
    """Unpack a zip file into a new folder, which appears only when all of it is there.

    Args:
        archive: the zip file.
        target: the folder that is made. Folders that the archive wraps around all of its files are left out.
        limit: most bytes that all files together may have.
        members: a regular expression; files whose path ends in a match are taken, called what its groups say one
            after the other, and the others are left; None takes all files with their paths.

    Returns:
        `target`.

    Raises:
        UnsafeArchive: not a whole zip file; a path that leaves the target; a link or device; encrypted; two files of
            one name; more files, bytes or compression than the limits; no file.
        FileExistsError: the target is there.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists")
    partial = target.with_name(target.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    try:
        with zipfile.ZipFile(archive) as opened:
            places = _plan(opened, archive, limit, members)
            for info, place in places.items():
                _extract(opened, info, partial / place, archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UnsafeArchive(f"{archive} is not a whole zip file: {error}") from error
    except UnsafeArchive:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.replace(partial, target)
    return target


def _plan(
    opened: zipfile.ZipFile, archive: Path, limit: int, members: str | None
) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Where each file goes, after every member has been looked at."""
    infos = opened.infolist()
    if len(infos) > COUNT_LIMIT:
        raise UnsafeArchive(f"{archive} has {len(infos)} members; at most {COUNT_LIMIT} are taken")
    for info in infos:
        fault = _fault(info)
        if fault:
            raise UnsafeArchive(f"{archive}: {info.orig_filename!r} {fault}")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise UnsafeArchive(f"{archive} would unpack to {total} bytes; at most {limit} are taken")
    files = {info: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    if members is not None:
        matches = {info: re.search(f"(?:^|/){members}$", info.filename) for info in files}
        files = {info: PurePosixPath("".join(match.groups())) for info, match in matches.items() if match}
    else:
        files = _unwrapped(files)
    if not files:
        raise UnsafeArchive(f"{archive} has no file of the expected names")
    lower = [str(place).lower() for place in files.values()]
    if len(set(lower)) < len(lower):
        raise UnsafeArchive(f"{archive} has two files of one name")
    return files


def _fault(info: zipfile.ZipInfo) -> str | None:
    # orig_filename: zipfile itself cuts names at NUL and turns backslashes on Windows.
    name = info.orig_filename
    path = PurePosixPath(name)
    if "\0" in name or "\\" in name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "would be written outside the target folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.file_size > CHUNK and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
        return f"is compressed {info.file_size // max(info.compress_size, 1)} times, as bombs are"
    return None


def _unwrapped(files: dict[zipfile.ZipInfo, PurePosixPath]) -> dict[zipfile.ZipInfo, PurePosixPath]:
    while files and all(len(place.parts) > 1 for place in files.values()):
        if len({place.parts[0] for place in files.values()}) > 1:
            break
        files = {info: PurePosixPath(*place.parts[1:]) for info, place in files.items()}
    return files


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path, archive: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    # zipfile checks the CRC at the end of the member.
    with opened.open(info) as source, place.open("wb") as file:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > info.file_size:
                raise UnsafeArchive(f"{archive}: {info.filename!r} is longer than it says")
            file.write(chunk)
    if written != info.file_size:
        raise UnsafeArchive(f"{archive}: {info.filename!r} has {written} of {info.file_size} bytes")
