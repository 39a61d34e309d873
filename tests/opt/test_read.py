"""Option files are data: numbers are numbers, duplicates are errors, nothing in them runs."""

from pathlib import Path

import pytest

from han_arch.errors import UserError
from han_arch.opt import read


def test_numbers() -> None:
    text = "a: 1e-4\nb: 1.0e-4\nc: !!float 1e-4\nd: 5e5\ne: 12\nf: v1e-4\ng: -2E+3\n"
    values = read.parse(text, "here")
    assert values == {"a": 1e-4, "b": 1e-4, "c": 1e-4, "d": 5e5, "e": 12, "f": "v1e-4", "g": -2000.0}


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system ", "!!python/module:os "]
)
def test_tags_run_nothing(tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="line 2"):
        read.parse(f"a: 1\nevil: {tag}\n", "file.yml")
    with pytest.raises(UserError):
        read.override({"a": 1}, [f"a={tag}"])
    assert not (tmp_path / "ran").exists()


def test_duplicate_keys_are_errors() -> None:
    with pytest.raises(UserError, match=r"x.yml, line 3: key 'lr' is there twice"):
        read.parse("train:\n  lr: 1\n  lr: 2\n", "x.yml")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("- just\n- a list\n")
    with pytest.raises(UserError, match="must hold a mapping of options; got list"):
        read.read(path)
    path.write_text("a: [1, 2\nb: 3\n")
    with pytest.raises(UserError, match=r"x.yml, line \d"):
        read.read(path)


def test_overrides_are_yaml_values() -> None:
    opt = {"train": {"lr": 1.0, "milestones": [1], "on": True, "text": ""}, "name": "a"}
    entries = ["train:lr=1e-4", "train:milestones=[3, 5]", "train:on=no", "train:text=a=b", "name=~"]
    read.override(opt, entries)
    assert opt == {"train": {"lr": 1e-4, "milestones": [3, 5], "on": False, "text": "a=b"}, "name": None}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("train:lrr=1", "train has no key 'lrr'; did you mean lr"),
        ("trian:lr=1", "top level has no key 'trian'; did you mean train"),
        ("train:lr:x=1", "train:lr has no key 'x'"),
        ("train:lr", "takes key:key=value"),
        ("train:__import__('os').system('touch ran')=1", "has no key"),
    ],
)
def test_overrides_create_no_keys(entry: str, message: str) -> None:
    opt = {"train": {"lr": 1.0}}
    with pytest.raises(UserError, match=message):
        read.override(opt, [entry])
    assert opt == {"train": {"lr": 1.0}}
