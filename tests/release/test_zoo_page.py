"""Tests of docs/model_zoo.md: it is up to date and agrees with the releases, and its commands run."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import make_model_zoo
import pytest
from releases import Made

from han_arch import cli
from han_arch.errors import UserError
from han_arch.files import encode, hash_file
from han_arch.zoo.entry import ENTRIES, to_json


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder with the authors' entries in entries.json, and without weight files."""
    (tmp_path / "zoo" / "weights").mkdir(parents=True)
    rows = [json.loads(to_json(entry)) for entry in ENTRIES if entry.recipe is None]
    (tmp_path / "zoo" / "entries.json").write_text(json.dumps(rows))
    return tmp_path / "zoo"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run scripts/make_model_zoo.py with the given flags."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["make_model_zoo.py", *words])
        return make_model_zoo.main()

    return run


def test_no_drift(
    script: Callable[..., int], repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script("--check") == 0, capsys.readouterr().out
    shutil.copytree(repository / "docs", tmp_path / "docs")
    page = tmp_path / "docs" / "model_zoo.md"
    page.write_text(page.read_text() + "\n")
    assert script("--check", "--docs", str(tmp_path / "docs")) == 1
    assert "is out of date; run scripts/make_model_zoo.py" in capsys.readouterr().out


def test_a_release_is_added_without_edits_by_hand(
    made: Made, zoo: Path, script: Callable[..., int], tmp_path: Path
) -> None:
    old = {**json.loads(to_json(made.entry)), "file": "han-s-x4-00000000.safetensors"}
    others = json.loads((zoo / "entries.json").read_text())
    (zoo / "entries.json").write_text(json.dumps([old, *others]))
    (zoo / "weights" / old["file"]).touch()
    assert script("--docs", str(tmp_path), "--zoo", str(zoo), "--add", str(made.release)) == 0
    rows = [json.loads(to_json(made.entry)), *others]
    assert (zoo / "entries.json").read_text("utf-8") == json.dumps(rows, indent=2, ensure_ascii=False) + "\n"
    (file,) = (zoo / "weights").iterdir()
    assert hash_file(file) == made.entry.sha256
    assert script("--docs", str(tmp_path), "--zoo", str(zoo), "--check") == 0
    with pytest.raises(UserError, match="is not a release folder"):
        script("--docs", str(tmp_path), "--zoo", str(zoo), "--add", str(made.experiment))


@pytest.mark.parametrize("text", ["[1]", "{", b"\xff", '{"name": "x", "file": "y", "url": null}', '{"expected": 1}'])
def test_a_damaged_entry_is_not_added(text: str | bytes, zoo: Path, tmp_path: Path) -> None:
    before = (zoo / "entries.json").read_bytes()
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "entry.json").write_bytes(encode(text))
    (tmp_path / "r" / "per_image.csv").touch()
    with pytest.raises(UserError, match=r"entry\.json is not the entry of a release"):
        make_model_zoo.add(tmp_path / "r", tmp_path, zoo)
    assert (zoo / "entries.json").read_bytes() == before


def test_a_release_is_shown_with_its_results(made: Made, zoo: Path, script: Callable[..., int], tmp_path: Path) -> None:
    entries = [made.entry, *(entry for entry in ENTRIES if entry.recipe is None)]
    with pytest.raises(UserError, match=r"release folder of han-s-x4 to scripts/make_model_zoo\.py --add"):
        make_model_zoo.page([made.entry], tmp_path)
    assert script("--docs", str(tmp_path), "--zoo", str(zoo), "--add", str(made.release)) == 0
    text = make_model_zoo.page(entries, tmp_path)
    set5 = made.entry.expected[0]
    (line,) = [line for line in text.splitlines() if line.startswith("| Set5 |")]
    assert line.endswith(f" | {set5.psnr:.2f} / {set5.ssim:.4f} |")
    assert set5.protocol in text
    assert "non-commercial research" in text
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (tmp_path / link).is_file(), link
    lying = replace(made.entry, expected=(replace(set5, psnr=set5.psnr + 0.01), *made.entry.expected[1:]))
    with pytest.raises(UserError, match=r"but entries\.json says"):
        make_model_zoo.page([lying], tmp_path)
    folder = tmp_path / "model_zoo" / made.entry.name
    assert {path.name for path in folder.iterdir()} >= {
        "training.log",
        "train.csv",
        "train_HAN-S_x4.yml",
        "openmodeldb",
    }
    assert not [path for path in folder.rglob("*") if path.suffix in (".safetensors",) or path.parent.name == "Set5"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("README.md", None, None, "is not the card of han-s-x4-"),
        ("README.md", "{file}", "other.safetensors", "is not the card of han-s-x4-"),
        ("README.md", "{psnr:.2f} / ", "99.99 / ", "is not the card of han-s-x4-"),
        ("per_image.csv", "{sha256}", "0" * 64, "must describe the weight file"),
    ],
)
def test_results_of_other_weights_are_refused(
    file: str, old: str | None, new: str | None, message: str, made: Made, zoo: Path, script: Callable[..., int],
    tmp_path: Path,
) -> None:  # fmt: skip
    assert script("--docs", str(tmp_path), "--zoo", str(zoo), "--add", str(made.release)) == 0
    path = tmp_path / "model_zoo" / made.entry.name / file
    if old is None or new is None:
        path.unlink()
    else:
        old = old.format(file=made.entry.file, psnr=made.entry.expected[0].psnr, sha256=made.entry.sha256)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=message):
        make_model_zoo.page([made.entry], tmp_path)


def test_the_authors_numbers_are_not_called_measured() -> None:
    others = [entry for entry in ENTRIES if entry.recipe is None]
    text = make_model_zoo.page(others, Path("nowhere"))
    assert "not measured here" in text
    assert "32.64 / 0.9002 (SwinIR paper, table 2)" in text
    measured = replace(others[0].expected[0], status="measured")
    with pytest.raises(UserError, match="measured results but no recipe"):
        make_model_zoo.page([replace(others[0], expected=(measured,))], Path("nowhere"))


def test_the_pages_commands_run(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (repository / "docs" / "model_zoo.md").read_text("utf-8")
    commands = [line for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", ["list", "show", "fetch", "verify", "convert", "publish", "reproduce"])
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["zoo", name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert f"basicsr zoo {name}" in text.split("examples:")[1]
