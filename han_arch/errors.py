"""The exception for mistakes of the user, one-line texts for errors of the system, and hints for unknown names."""

import difflib
import errno
import os
import unicodedata
from collections.abc import Iterable
from typing import Any

_LISTED = 12  # largest number of known names in a message
_LONGEST = 200  # largest number of characters of a name that cannot be encoded
_JOINERS = "\u200c\u200d"  # invisible characters that Persian words and some emoji need
_REMEDIES = {
    errno.EACCES: "check the permissions of the file and of its folders, or choose another folder",
    errno.EEXIST: "remove it, or choose another name",
    errno.EDQUOT: "free some of your disk quota, or choose another folder",
    errno.EFBIG: "allow larger files with `ulimit -f`, or choose another disk",
    errno.EISDIR: "a folder has this name; choose the name of a file",
    errno.ELOOP: "the symbolic links run in a circle; correct them",
    errno.EMFILE: "close other programs, or raise the limit with `ulimit -n`",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOSPC: "free some space, or choose another disk",
    errno.ENOTDIR: "a file has the name of a folder; choose another path",
    errno.EPERM: "check the permissions of the file and of its folders, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
}


class UserError(ValueError):
    """A mistake that the user can fix. The message says what was expected, what was found and what to do.

    A message about several faults has one line for each fault, indented by two spaces. The `basicsr` command prints the
    message and exits with status 2. Characters that could disturb a terminal are escaped, see `printable`.
    """

    def __str__(self) -> str:
        return "\n  ".join(map(printable, super().__str__().split("\n  ")))


def printable(name: object, keep: str = "") -> str:
    """Return a name as text that is safe in one line of a terminal, a log or a table.

    Line breaks, control characters, marks that reverse the direction of text, and bytes that are not UTF-8 become
    escapes such as `\\n`, `\\x1b`, `\\u202e` and `\\udcf6`. The characters in `keep` stay.
    """
    return "".join(
        sign.encode("unicode_escape").decode() if _is_hidden(sign) and sign not in keep else sign for sign in str(name)
    )


def one_line(error: OSError | UnicodeEncodeError) -> str:
    """Return the file, the reason and the remedy of an error of the operating system as a text in one line.

    A UnicodeEncodeError means that a library could not use a name, because it is not UTF-8.
    """
    if isinstance(error, UnicodeEncodeError):
        name = printable(error.object[:_LONGEST])
        return f"{name} has a character that cannot be encoded; rename this file or folder"
    names = [name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes, os.PathLike))]
    where = " -> ".join(os.fsdecode(name) for name in names)
    if error.errno == errno.ENOENT and not where:
        where = "the current folder"  # the only name that Python leaves out
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    what = f"{where}: {reason}" if where else str(reason)
    advice = remedy(error)
    return printable(f"{what}; {advice}" if advice else what)


def remedy(error: OSError) -> str | None:
    """Return what the user can do about an error of the operating system, or None if that is unknown."""
    return _REMEDIES.get(error.errno or 0)


def nearest(name: Any, known: Iterable[Any], likeness: float = 0.6) -> str | None:
    """Return the known name that is most similar to an unknown name, or None if no name is similar enough.

    `likeness` is the minimum similarity: 0 accepts any name; 1 accepts only an identical name.
    """
    close = difflib.get_close_matches(str(name), [str(one) for one in known], n=1, cutoff=likeness)
    return close[0] if close else None


def hint(name: Any, known: Iterable[Any]) -> str:
    """Return "did you mean X?" if a known name X is similar; otherwise return a list of the known names."""
    names = sorted(str(one) for one in known)
    close = nearest(name, names)
    if close:
        return f"did you mean {close}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED]) or 'none'}{more}"


def unknown(what: str, name: Any, known: Iterable[Any]) -> UserError:
    """Return the error for an unknown name. `what` is the kind of the name, such as "degradation"."""
    return UserError(f"unknown {what} {name!r}; {hint(name, known)}")


def reason(error: BaseException) -> str:
    """Return an error on one line of at most 300 characters: the message, after the class if it is no UserError."""
    text = one_line(error) if isinstance(error, OSError) else "; ".join(str(error).split("\n"))
    known = isinstance(error, (OSError, UserError))
    return printable(text if known and text else f"{type(error).__name__}: {text or 'no message'}")[:300]


def _is_hidden(sign: str) -> bool:
    # Control characters, format characters, surrogates, line separators and paragraph separators.
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") and sign not in _JOINERS
