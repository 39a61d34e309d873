"""Unpack zip archives from the internet: completely or not at all, and never outside the target folder."""

import os
import posixpath
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from han_arch.errors import UserError, printable
from han_arch.files import clear_refusal, new_folder
from han_arch.names import check_name

CHUNK = 2**20
COUNT_LIMIT = 100_000  # largest number of entries in an archive
RATIO_LIMIT = 200  # largest allowed ratio of unpacked size to packed size; zip bombs reach 1000 and more
_PATH_LIMIT = 1000  # largest length of an entry's path in characters; systems allow paths of 1024 to 4096 bytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the other methods can take gigabytes of memory


class UnsafeArchive(UserError):
    """Error for an archive that is damaged or has unsafe entries. Nothing was unpacked."""


def unpack_zip(archive: Path | BinaryIO, target: Path, limit: int, members: str | None = None) -> None:
    """Unpack a zip file into a new folder. The folder appears only when it is complete.

    Args:
        archive: the zip file, or its path.
        target: the folder to make. A top folder that contains all files of the archive is not created.
        limit: largest total size of the unpacked files, in bytes.
        members: regular expression for the end of a file's path. Only files that match are unpacked. A file's new path
            is the joined text of the expression's groups. None: all files are unpacked with their paths.

    Raises:
        UnsafeArchive: the zip file is damaged; no file matches `members`; two files get the same name; a file has the
            name of a folder; an entry is a link, is a device, is encrypted, has an unknown compression method, or has
            a path that is unsafe or too long; there are too many files or bytes; entries overlap; or the compression
            ratio is too high.
        FileExistsError: the target exists.
        UserError: the target cannot be written, for example because the disk is full.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} already exists; remove it or choose another folder")
    with archive.open("rb") if isinstance(archive, Path) else nullcontext(archive) as file:
        archive = Path(file.name)
        with _damage_reported(archive):
            opened = zipfile.ZipFile(file)
            places = _places(opened, archive, os.fstat(file.fileno()).st_size, limit, members)
        with clear_refusal(target, "free disk space or choose another folder"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with new_folder(target) as folder:
                for info, place in places.items():
                    path = folder / place
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with path.open("xb") as written:
                        for chunk in _chunks(opened, info, archive):
                            written.write(chunk)


@contextmanager
def _damage_reported(archive: Path) -> Iterator[None]:
    """Convert each exception inside a `with` block to UnsafeArchive. zipfile raises many kinds for a damaged file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UnsafeArchive(f"{archive} is damaged or not a zip file: {printable(error)}; download it again") from error


def _chunks(opened: zipfile.ZipFile, info: zipfile.ZipInfo, archive: Path) -> Iterator[bytes]:
    """Yield the content of an entry in chunks, and check its size. zipfile checks the CRC at the end."""
    size = 0
    with _damage_reported(archive):
        source = opened.open(info)
    with source:
        while True:
            with _damage_reported(archive):
                chunk = source.read(CHUNK)  # no more than the size in the index
            if not chunk:
                break
            size += len(chunk)
            yield chunk
    if size != info.file_size:
        wanted = f"the archive's index says {info.file_size}"
        raise UnsafeArchive(f"{archive}: {info.filename!r} has {size} bytes; {wanted}; download it again")


def _places(
    opened: zipfile.ZipFile, archive: Path, size: int, limit: int, members: str | None
) -> dict[zipfile.ZipInfo, PurePosixPath]:
    """Check all entries of a zip file of `size` bytes. Return a dict from each entry to its path in the target."""
    infos = opened.infolist()
    if len(infos) > COUNT_LIMIT:
        raise UnsafeArchive(f"{archive} must have at most {COUNT_LIMIT} entries; got {len(infos)}")
    for info in infos:
        if fault := _fault(info):
            raise UnsafeArchive(f"{archive}: {info.orig_filename!r:.200} {fault}; get the archive from another source")
    total = sum(info.file_size for info in infos)
    if total > limit:
        raise UnsafeArchive(f"the files in {archive} have {total} bytes when unpacked; at most {limit} are allowed")
    if sum(info.compress_size for info in infos) > size:
        raise UnsafeArchive(f"{archive}: its entries overlap, like in a zip bomb; get the archive from another source")
    files = {info: PurePosixPath(info.filename) for info in infos if not info.is_dir()}
    if members is not None:
        matches = {info: re.search(f"(?:^|/){members}$", info.filename) for info in files}
        files = {info: PurePosixPath("".join(match.groups())) for info, match in matches.items() if match}
    elif files:  # remove top folders that contain all files
        top = posixpath.commonpath([place.parent for place in files.values()])
        files = {info: place.relative_to(top) for info, place in files.items()}
    if not files:
        raise UnsafeArchive(f"{archive} does not contain any of the expected files")
    # Some file systems do not distinguish upper and lower case, or composed and decomposed letters.
    names = [PurePosixPath(unicodedata.normalize("NFC", str(place)).casefold()) for place in files.values()]
    if len(set(names)) < len(names):
        raise UnsafeArchive(f"{archive} contains two files that would get the same name")
    if both := {parent for name in names for parent in name.parents}.intersection(names):
        raise UnsafeArchive(f"{archive}: {str(both.pop())!r} is both a file and a folder")
    return files


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Return why an entry of a zip file is unsafe to unpack; None if it is safe."""
    # orig_filename is the stored name. In filename, zipfile cuts the name at NUL and replaces backslashes on Windows.
    name = info.orig_filename
    path = PurePosixPath(name)
    if "\\" in name or path.is_absolute() or PureWindowsPath(name).drive or ".." in path.parts:
        return "would be written outside the target folder"
    if not path.parts and not name.endswith("/"):
        return "has no name"
    if len(name) > _PATH_LIMIT:
        return f"has a path of {len(name)} characters; at most {_PATH_LIMIT} are allowed"
    try:
        for part in path.parts:
            check_name("each part of a path", part)
    except UserError as error:
        return f"has an unusable name ({error})"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return f"has the compression method {info.compress_type}, which is not supported"
    if info.file_size > CHUNK and info.file_size > RATIO_LIMIT * max(info.compress_size, 1):
        return f"becomes {info.file_size // max(info.compress_size, 1)} times larger when unpacked, like a zip bomb"
    return None
