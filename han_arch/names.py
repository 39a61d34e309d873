"""One rule for names that users choose and that become files or folders."""

from typing import Any

from han_arch.errors import UserError, printable

_LONGEST_NAME = 200  # bytes; programs add dates and suffixes to a name, and file systems allow 255 bytes
_FORBIDDEN = frozenset('<>:"/\\|?*')  # Windows does not allow these characters, and a slash would make a path
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³")}


def check_name(what: str, name: Any) -> str:
    """Return a name that the user chose if every system can use it as the name of a file or folder.

    Args:
        what: kind of the name for the message, such as "the option name".

    Raises:
        UserError: the name is not a text, is empty or too long, or has a character that a system does not allow; it
            leaves its folder (".."), ends with a dot or space, or is a device of Windows (such as NUL).
    """
    fault = _find_name_fault(name)
    if fault:
        raise UserError(
            f"{what} must be usable as the name of a folder: {fault}; got {name!r:.120}; choose another name"
        )
    return str(name)


def _find_name_fault(name: Any) -> str:
    if not isinstance(name, str) or not name:
        return "it must be a text of at least one character"
    if wrong := sorted(
        character for character in set(name) if character in _FORBIDDEN or printable(character) != character
    ):
        return f"it must not contain {', '.join(map(ascii, wrong))}"
    if name != name.strip().rstrip("."):  # "." and ".." included
        return "it must not begin with a space or end with a space or dot"
    if name.split(".")[0].rstrip().lower() in _DEVICES:
        return "Windows has a device of this name"
    if (size := len(name.encode())) > _LONGEST_NAME:
        return f"it must have at most {_LONGEST_NAME} bytes in UTF-8, and it has {size}"
    return ""
