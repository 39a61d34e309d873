"""Where an entry's file is: in the package, in the user's cache folder, or on the net."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from han_arch import download
from han_arch.errors import UserError
from han_arch.files import CACHE_VARIABLE, cache_folder
from han_arch.zoo import weight_file
from han_arch.zoo.entry import Entry

SHIPPED = Path(__file__).parent / "weights"


def present(entry: Entry) -> Path | None:
    """The entry's file where it is in the package or the cache already; its hash is not looked at.

    A file of unknown hash is never taken from the cache: nothing tells that it is the right one.
    """
    if entry.sha256 is None:
        return None
    for folder in (SHIPPED, cache_folder()):
        if (folder / entry.file).is_file():
            return folder / entry.file
    return None


def obtain(entry: Entry, say: Callable[[str], None]) -> Path:
    """The entry's file with the right hash: shipped, cached, or fetched now.

    Args:
        entry: of the table.
        say: told in one line each what is fetched, and that a damaged cached file is fetched anew.

    Raises:
        UserError: it cannot be fetched, the download fails (DownloadError), or the shipped file is damaged.
    """
    if entry.sha256 is None:
        raise UserError(f"{entry.name} cannot be fetched by a program: {entry.how_to_get}")
    shipped = SHIPPED / entry.file
    if shipped.is_file():
        if weight_file.sha256(shipped) == entry.sha256:
            return shipped
        raise UserError(f"{shipped} is damaged: its hash is not {entry.sha256}; install the package again")
    cached = cache_folder() / entry.file
    if _is_right(cached, entry):
        return cached
    if entry.url is None:
        raise UserError(
            f"{entry.name}: {entry.file} is missing from {SHIPPED} and has no address; install the package again"
        )
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the cache folder {cached.parent} cannot be made ({error.strerror}); {CACHE_VARIABLE} names another"
        ) from error
    # Several processes of one training ask for the same file.
    try:
        lock = FileLock(cached.with_name(f".{cached.name}.lock")).acquire()
    except OSError as error:
        raise UserError(
            f"the cache folder {cached.parent} cannot be written to ({error.strerror}); {CACHE_VARIABLE} names another"
        ) from error
    with lock:
        if _is_right(cached, entry):
            return cached
        if cached.exists():
            say(f"{cached} is damaged and is fetched anew")
            cached.unlink()
        say(f"fetching {entry.name} from {entry.url} to {cached.parent}")
        remote = download.RemoteFile(entry.url, entry.file, entry.size, f"sha256:{entry.sha256}")
        return download.fetch(remote, cached.parent, say)


def _is_right(path: Path, entry: Entry) -> bool:
    return path.is_file() and weight_file.sha256(path) == entry.sha256
