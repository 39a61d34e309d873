"""The exception for mistakes of the user, and "did you mean" hints for unknown names."""

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Any

_LISTED = 12  # largest number of known names in a message


class UserError(ValueError):
    """A mistake that the user can fix. The message says what was expected, what was found and what to do.

    A message about several faults has one line for each fault. The `basicsr` command prints the message and exits with
    status 2.
    """


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


def printable(name: object) -> str:
    """Return a name as text for one line: line breaks, control characters and lone surrogates become escapes as \\n."""
    return "".join(c.encode("unicode_escape").decode() if _is_hidden(c) else c for c in str(name))


def _is_hidden(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")  # control, format, surrogate, unassigned, line separators
