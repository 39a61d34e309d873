"""JSON files that record something: every damage is a ValueError with a reason, and the readers say what to do."""

from pathlib import Path

import pytest

from han_arch.data.image_sets import load_set
from han_arch.data.stores import RECORD
from han_arch.files import read_mapping

DAMAGED = {
    "cut": b'{"count": ',
    "list": b'["count", 2]',
    "number": b"7",
    "null": b"null",
    "empty": b"",
    "not UTF-8": b'{"count": "\xff"}',
    "nested": b'{"count": ' + b"[" * 100_000,
    "NUL": b"\0" * 100,
}


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_damage_has_a_reason(kind: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(DAMAGED[kind])
    with pytest.raises(ValueError, match=r"\w"):
        read_mapping(tmp_path / RECORD)
    faults = load_set(tmp_path).faults
    assert any(f"{RECORD} is damaged" in fault for fault in faults), faults


def test_a_mapping_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert read_mapping(tmp_path / "a.json") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        read_mapping(tmp_path / "b.json")
