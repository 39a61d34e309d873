"""The exception for a user's mistake, and the only "did you mean"."""

import difflib
from collections.abc import Iterable
from typing import Any

_LISTED = 12  # longer lists of known names are cut


class UserError(ValueError):
    """A mistake that the user can fix: wanted, got and what to do, in one line.

    The `basicsr` command prints the message and exits with status 2.
    """


def nearest(name: Any, known: Iterable[Any], likeness: float = 0.6) -> str | None:
    """Return the known name that was probably meant, or None; likeness is from 0 (any name) to 1 (the same name)."""
    close = difflib.get_close_matches(str(name), [str(one) for one in known], n=1, cutoff=likeness)
    return close[0] if close else None


def hint(name: Any, known: Iterable[Any]) -> str:
    """Return "did you mean X?" for the nearest known name; where none is near, list the known names."""
    names = sorted(str(one) for one in known)
    close = nearest(name, names)
    if close:
        return f"did you mean {close}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED]) or 'none'}{more}"


def unknown(what: str, name: Any, known: Iterable[Any]) -> UserError:
    """Return the error for an unknown name of a kind (what), such as "degradation"; it names the nearest known one."""
    return UserError(f"unknown {what} {name!r}; {hint(name, known)}")
