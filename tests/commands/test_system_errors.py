"""Places that cannot be read or written: each command says so in one line, writes nothing and loses nothing."""

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from han_arch.cli import main

LONG = "n" * 300


@pytest.fixture
def places(tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image, a checkpoint, a leaderboard, and places in which no file can be."""
    (tmp_path / "gt").mkdir()
    Image.effect_noise((32, 32), 50).convert("RGB").save(tmp_path / "gt" / "a.png")
    (tmp_path / "tiny.pth").write_bytes(tiny_checkpoint.read_bytes())
    board = "name: b\nscale: 2\ndatasets: {j: {dataroot_gt: gt}}\nmodels: {Bicubic: {type: Bicubic}}\n"
    (tmp_path / "board.yml").write_text(board)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "circle").symlink_to("circle")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRITERS = (
    "data prepare gt -o {} --scale 2 --benchmark --workers 1",
    "zoo convert tiny.pth {}.pth",
    "upscale gt/a.png -o {}.png --model tiny.pth",
    "options copy demo_HAN_x4 {}.yml",
    "leaderboard -opt board.yml -o {}",
)
READERS = (
    "train -opt {} --check",
    "leaderboard -opt {}",
    "data bench -opt {}",
    "data verify {}",
    "data prepare {} -o out --scale 2 --benchmark --workers 1",
    "zoo convert {} out.pth",
    "upscale gt/a.png -o out.png --model {}",
)
TRIALS = [(command, place) for command in (*WRITERS, *READERS) for place in ("file/x", "circle/x", LONG)]
TRIALS += [(command, "circle") for command in READERS]


@pytest.mark.skipif(sys.platform == "win32", reason="the places are those of a POSIX file system")
@pytest.mark.usefixtures("basicsr")
@pytest.mark.parametrize(("command", "place"), TRIALS)
def test_impossible_places(command: str, place: str, places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(os.walk(places))
    assert main(command.format(place).split()) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("basicsr ")]
    assert len(error) == 1
    assert place.split("/")[0] in error[0]
    assert ".part" not in error[0].replace(".partial", "")
    assert [folder for folder in sorted(os.walk(places)) if folder[2]] == [folder for folder in before if folder[2]]
    assert (places / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="the places are those of a POSIX file system")
@pytest.mark.usefixtures("basicsr")
@pytest.mark.parametrize("command", ["inspect gt/a.png --model gone.pth -o file/x.png", "bench --out file/x"])
def test_places_are_checked_before_the_work(
    command: str, places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("han_arch.commands.bench.measure_all", None)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert "could not write" in error
    assert "another folder" in error
    assert (places / "file").read_text() == "mine"


@pytest.mark.usefixtures("basicsr")
def test_no_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user number without an account has no home folder; what needs none goes on."""
    for name in ("HOME", "HAN_ARCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    assert main(["zoo", "list"]) == 0
    assert main(["zoo", "show", "han-s-x4"]) == 0
    assert main(["doctor"]) == 0
    assert main(["data", "verify", "~nobody-of-this-name/x"]) == 2
    assert not list(tmp_path.iterdir())
    assert "~nobody" in capsys.readouterr().err
