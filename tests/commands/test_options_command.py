"""`basicsr options`: list and copy the shipped option files."""

from pathlib import Path

import pytest

from han_arch.cli import main
from han_arch.opt import read


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(read.shipped_files())
    assert all(len(line.split()) > 2 for line in lines)


def test_copy_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "copy", "train_HAN_x4", "mine.yml"]) == 0
    assert "HAN_x4_DIV2K" in (folder / "mine.yml").read_text()
    (folder / "mine.yml").write_text("name: mine\n")
    assert main(["options", "copy", "train_HAN_x4", "mine.yml"]) == 2
    assert "overwrite mine.yml" in capsys.readouterr().err
    assert (folder / "mine.yml").read_text() == "name: mine\n"
    assert main(["options", "copy", "train_HAN_x8.yml"]) == 0
    assert (folder / "train_HAN_x8.yml").is_file()
    assert main(["options", "copy", "train_HAN_x2", "new/"]) == 0
    assert (folder / "new" / "train_HAN_x2.yml").is_file()


def test_copy_all(folder: Path) -> None:
    assert main(["options", "copy", "all", "new"]) == 0
    assert sorted(path.name for path in (folder / "new").iterdir()) == list(read.shipped_files())


def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "copy", "train_HAM_x4"]) == 2
    message = capsys.readouterr().err
    assert "train_HAM_x4" in message
    assert "train_HAN_x4.yml?" in message
