"""Text from users in Markdown and CSV: shown as it is, never as HTML, a link, a formula or another cell."""

import csv
import io

import pytest

from han_arch.evaluation.rows import code, csv_text, escaped, markdown_table

HOSTILE = "a|b`c`\n<script>alert(1)</script>[x](http://y)*z*__u__\\|&amp; $m$ \udcf6"


def test_hostile_text_is_one_cell_of_a_markdown_table() -> None:
    head, line, row, empty = markdown_table(["one|two", "3"], [[HOSTILE, code(HOSTILE)]])
    assert head == r"| one\|two | 3 |"
    assert (line, empty) == ("|---|---|", "")
    cells, _, _ = row.partition(" | ")
    assert "<" not in cells
    assert r"\](" in cells
    for character in "|`*$":
        assert cells.count(character) == cells.count(f"\\{character}") + (character == "|"), character
    assert row.encode()  # no lone surrogate


@pytest.mark.parametrize("text", ["img_003", "+0.140 [+0.081, +0.198]", "27.31 dB / 0.8012", "HAN (chop)", "写真"])
def test_usual_cells_stay_as_they_are(text: str) -> None:
    assert escaped(text) == text


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "@SUM(1)", "+1+1", "-x", " =1", "\uff1d1", "=1\n=2"])
def test_a_spreadsheet_runs_no_cell(text: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(["model", text], [{"model": text}]))))
    assert len(rows) == 2
    assert rows[0][1][0] == rows[1][0][0] == "'"


def test_numbers_and_plain_text_of_csv_stay_as_they_are() -> None:
    cells = ["+0.5", "-1e-5", "nan", "", 'a, "b"', "0.1"]
    text = csv_text(list("abcdef"), [dict(zip("abcdef", cells, strict=True))])
    assert list(csv.reader(io.StringIO(text)))[1] == cells
