"""Option files and `--force_yml` are plain data: numbers are read as numbers, duplicate keys are errors, no code runs.

`--force_yml` can add known options: those in the table or in a signature. For others, the error has the nearest name.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from han_arch.cli import main
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
    with pytest.raises(UserError, match=r"x.yml, line 3: the key 'lr' appears twice"):
        read.parse("train:\n  lr: 1\n  lr: 2\n", "x.yml")


def test_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_text("- just\n- a list\n")
    with pytest.raises(UserError, match="must contain a mapping of options; got list"):
        read.read(path)
    path.write_text("a: 1\n? [b, c]\n: 2\n")
    with pytest.raises(UserError, match=r"x.yml, line \d: found unhashable key"):
        read.read(path)
    path.write_text("a: [1, 2\nb: 3\n")
    with pytest.raises(UserError, match=r"x.yml, line \d"):
        read.read(path)


HOSTILE = {
    "float": (b"a: 1\nb: !!float le-3\n", ("line 2", "'le-3'", "float")),
    "empty float": (b"a: !!float ''\n", ("line 1", "float")),
    "int": (b"a: !!int x\n", ("line 1", "'x'", "int")),
    "flag": (b"a: !!bool perhaps\n", ("line 1", "'perhaps'", "bool")),
    "date": (b"a: 1\n\nb: 2024-13-45\n", ("line 3", "2024-13-45")),
    "timestamp": (b"a: !!timestamp soon\n", ("line 1", "'soon'")),
    "long number": (b"a: " + b"9" * 5000 + b"\n", ("line 1", "int")),
    "tag on a mapping": (b"a: !!float {b: 1}\n", ("line 1",)),
    "nesting": (b"a: " + b"[" * 3000 + b"]" * 3000, ("line 1", "nesting")),
    "nested blocks": (b"".join(b" " * depth + b"a:\n" for depth in range(300)), ("line 50", "nesting")),
    "aliases": (
        b"a: &a [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"%c: &%c [%s]\n" % (b, b, b", ".join([b"*%c" % (b - 1)] * 9)) for b in b"bcdefghi"),
        ("line 5", "values", "alias"),
    ),
    "self": (b"a: &a [1, *a]\n", ("line 1", "alias", "itself")),
    "NUL": (b"a: 1\nb: \0\n", ("not a text file", "UTF-8")),
    "control": (b"a: 1\nb: \x01\n", ("line 2", "\\x01", "not allowed")),
    "tab": (b"a:\n\tb: 1\n", ("line 2",)),
    "Latin-1": ("# Größe\na: 1\n".encode("latin-1"), ("line 1", "save the file as UTF-8")),
    "GBK": ("a: 1\n# 数据集\n".encode("gbk"), ("line 2", "save the file as UTF-8")),
    "UTF-16 without a mark": ("a: 1\n".encode("utf-16-le"), ("UTF-8",)),
    "cut UTF-16": ("a: 1\n".encode("utf-16")[:-1], ("UTF-8",)),
    "UTF-32": ("a: 1\n".encode("utf-32"), ("UTF-8",)),
    "another file": (b"PK\x03\x04" + bytes(range(256)), ("not a text file",)),
    "huge": (b"a: 1 # " + b"x" * 2**21, ("not an option file", "bytes")),
    "empty": (b"", ("mapping", "empty file")),
    "comment": (b"# nothing\n", ("mapping", "empty file")),
    "two documents": (b"a: 1\n---\nb: 2\n", ("line 2",)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_one_line_with_the_place(kind: str, tmp_path: Path) -> None:
    content, parts = HOSTILE[kind]
    path = tmp_path / "x.yml"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        read.read(path)
    (line,) = str(raised.value).splitlines()
    assert str(path) in line
    assert all(part in line for part in parts), line
    assert len(line) < 400


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(f"# 数据集{end}a: 1{end}b: Größe{end}".encode(encoding))
    assert read.read(path) == {"a": 1, "b": "Größe"}


def test_merge_keys_are_expanded() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {z: 3}\nc:\n  <<: [*a, *b]\n  y: 4\n"
    assert read.parse(text, "text")["c"] == {"x": 1, "y": 4, "z": 3}


def test_aliases_are_copies_of_their_anchors() -> None:
    assert read.parse("a: &x [1, 2]\nb: *x\nc: *x\n", "here") == {key: [1, 2] for key in "abc"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yml")
    (tmp_path / "folder.yml").mkdir()
    (tmp_path / "circle.yml").symlink_to("circle.yml")
    for name in ("fifo.yml", "folder.yml"):
        with pytest.raises(UserError, match="not a regular file"):
            read.read(tmp_path / name)
    with pytest.raises(UserError, match=r"circle\.yml"):
        read.read(tmp_path / "circle.yml")


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
        ("train:lr", "must be key:key=value"),
        ("train:__import__('os').system('touch ran')=1", "has no key"),
    ],
)
def test_overrides_create_no_keys(entry: str, message: str) -> None:
    opt = {"train": {"lr": 1.0}}
    with pytest.raises(UserError, match=message):
        read.override(opt, [entry])
    assert opt == {"train": {"lr": 1.0}}


def test_an_addable_value_is_no_section() -> None:
    opt = {"scheduler": {"periods": [1]}}
    with pytest.raises(UserError, match=r"scheduler:restart_weights has no key 'x'"):
        read.override(opt, ["scheduler:restart_weights:x=1"], lambda options, keys: {"restart_weights": False})
    assert opt == {"scheduler": {"periods": [1]}}


def forced(*entries: str) -> list[str]:
    return ["train", "-opt", "demo_HAN_x4", "--check", "--force_yml", *entries]


ADDED = [
    ("train:precision=bf16", "bf16"),
    ("train:grad_clip=1e1", 10.0),
    ("train:guard:factor=5", 5),
    ("train:optim_g:fused=yes", True),
    ("val:inference=chop", "chop"),
    ("logger:keep_last=3", 3),
    ("datasets:train:filename_tmpl='{}x4'", "{}x4"),
    ("network_g:num_csam=2", 2),
    ("val:metrics:psnr:input_order=HWC", "HWC"),
    ("val:metrics:niqe={type: calculate_niqe, crop_border: 4}", {"type": "calculate_niqe", "crop_border": 4}),
    ("find_unused_parameters=false", False),
]


@pytest.mark.usefixtures("demo_folder")
@pytest.mark.parametrize(("entry", "value"), ADDED, ids=[row[0].partition("=")[0] for row in ADDED])
def test_known_options_are_added(entry: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    way = entry.partition("=")[0].split(":")
    before: Any = read.read("demo_HAN_x4")
    for key in way[:-1]:
        before = before.get(key) or {}
    if way[-1] != "num_csam":
        assert way[-1] not in before  # if the option was there before, the test would prove nothing
    assert main(forced(entry)) == 0, capsys.readouterr().err
    resolved: Any = yaml.safe_load(capsys.readouterr().out)
    for key in way:
        resolved = resolved[key]
    assert resolved == value


@pytest.mark.usefixtures("demo_folder")
@pytest.mark.parametrize(
    ("entry", "parts"),
    [
        ("train:precison=bf16", ("train ", "'precison'", "precision?")),
        ("train:guard:faktor=5", ("train:guard ", "'faktor'", "factor?")),
        ("tarin:precision=bf16", ("top level", "'tarin'", "train?")),
        ("network_g:num_groups=2", ("network_g ", "'num_groups'", "num_group?")),
        ("val:metrics:pnsr:crop_border=2", ("val:metrics ", "'pnsr'", "psnr?")),
        ("datasets:trian={}", ("datasets:trian ", "name")),
        ("train:precision=bf17", ("train:precision ", "fp32 or bf16 or fp16", "'bf17'")),
        ("train:total_iter:x=1", ("train:total_iter ", "'x'")),
        ("train:grad_clip=!!python/name:os.system ''", ("train:grad_clip", "could not determine a constructor")),
    ],
)
def test_others_are_refused(entry: str, parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(forced(entry)) == 2
    message = capsys.readouterr().err
    assert all(part in message for part in parts), message


def test_models_of_others_may_read_more_but_the_file_must_name_it(
    demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--force_yml` can change an option that only another package knows, but cannot add it to the file."""
    opt = read.read("demo_HAN_x4")
    opt["model_type"] = "RealESRNetModel"
    opt["train"]["own"] = 1
    (demo_folder / "own.yml").write_text(yaml.safe_dump(opt))
    command = ["train", "-opt", "own.yml", "--check", "--force_yml"]
    assert main([*command, "train:own=2"]) == 0, capsys.readouterr().err
    assert yaml.safe_load(capsys.readouterr().out)["train"]["own"] == 2
    assert main([*command, "train:owner=2"]) == 2
    message = capsys.readouterr().err
    assert "'owner'" in message
    assert "own?" in message
