"""Names that users choose: allowed as names of folders, and harmless as text on one line and in JSON."""

import json
import math
from pathlib import Path

import pytest

from han_arch.errors import UserError, printable
from han_arch.files import json_text, write
from han_arch.names import check_name


@pytest.mark.parametrize(
    "name",
    ["HAN_x4", "写真 1", "x.y", "Größe", "a" * 200, "console", "HAN+", "-o", ".hidden",
     "\u0645\u06cc\u200c\u062e", "👨\u200d👧", "\U0001fae0"],
)  # fmt: skip
def test_names_of_folders_are_allowed(name: str) -> None:
    assert check_name("the option name", name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "/etc", "a\\b", "C:", "nul", "NUL.txt", "com1", "LPT9.a", "aux ", "a.", "a ", " a", "a\0b",
     "a\nb", "a\x1b[31m", "a\u202eb", "\udcf6", "a" * 201, "ä" * 101, "a|b", "what?", None, 7, ["a"], "\u2028"],
)  # fmt: skip
def test_names_that_a_system_refuses_or_that_leave_the_folder(name: object) -> None:
    with pytest.raises(UserError, match=r"^the option name must be usable .*choose another name$") as caught:
        check_name("the option name", name)
    assert repr(name)[:50] in str(caught.value)


def test_hidden_characters_become_escapes() -> None:
    assert printable("写真 a\tb\r\n\x00\udcf6\u2028") == r"写真 a\tb\r\n\x00\udcf6\u2028"


def test_json_has_no_nan_and_text_keeps_any_name(tmp_path: Path) -> None:
    content = {"psnr": math.nan, "more": [math.inf, (1.5, -math.inf)], "path": Path("a"), "name": "K\udcf6ln"}
    write(tmp_path / "a.json", json_text(content))

    def refuse(word: str) -> None:
        pytest.fail(word)

    read = json.loads((tmp_path / "a.json").read_text("utf-8"), parse_constant=refuse)
    assert read == {"psnr": None, "more": [None, [1.5, None]], "path": "a", "name": "K\udcf6ln"}
