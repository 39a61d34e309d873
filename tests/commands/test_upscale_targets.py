"""`basicsr upscale` finds output files that it cannot write before any work starts, and leaves nothing behind."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from known_engines import photo
from PIL import Image

from han_arch.cli import main
from han_arch.images.picture import Picture
from han_arch.images.png16 import write_png16


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with in/a.png, in/b.png and in/wide.png."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in "ab":
        Image.fromarray(photo(12, 16)).save(f"in/{name}.png")
    return tmp_path


def upscale(checkpoint: Path, *words: str) -> int:
    return main(["upscale", *words, "--model", str(checkpoint)])


def tree() -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


LONG = "n" * 255


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["in", "-o", "/proc/nope"], ["could not write /proc/nope", "pass another folder"]),
        (["in", "-o", "file/out"], ["could not write file/out", "Not a directory"]),
        (["in/a.png", "-o", "file/out.png"], ["could not write file", "Not a directory"]),
        (["in", "-o", "out", "--suffix", "s" * 252], ["could not write out/a", "name too long", "shorter name"]),
        (["in", "-o", LONG + "x"], ["could not write", "name too long"]),
        (["in/a.png", "-o", LONG + ".png"], ["could not write", "name too long"]),
        (["in", "-o", "loop/out"], ["could not write loop"]),
        (["in/a.png", "-o", "taken", "--overwrite"], ["taken/a.png is a folder"]),
        (["in/a.png", "pair/a_compare.png", "-o", "out", "--compare"], ["would both become out/a_compare.png"]),
        (["in/a.png", "pair/a_compare.png", "-o", "pair", "--compare", "--overwrite"], ["would replace a source"]),
        (["in/a.png", "-o", "in/hard.png", "--overwrite"], ["in/hard.png would replace a source"]),
        (["in/a.png", "pair", "-o", "out"], ["out/a.png would be a file and the folder of out/a.png/b.png"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_refused_once_and_before_the_work(
    words: list[str],
    messages: list[str],
    folder: Path,
    tiny_checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("file").write_text("mine")
    Path("loop").symlink_to("loop")
    Path("taken/a.png").mkdir(parents=True)
    Path("pair/a.png").mkdir(parents=True)
    Path("pair/a_compare.png").write_bytes(Path("in/a.png").read_bytes())
    Path("pair/a.png/b.png").write_bytes(Path("in/a.png").read_bytes())
    os.link("in/a.png", "in/hard.png")
    before = tree()
    assert upscale(tiny_checkpoint, *words) == 2
    error = capsys.readouterr().err
    assert all(message in error for message in messages)
    assert error.count("error:") == 1
    assert tree() == before


def test_formats_that_cannot_store_an_image_are_found_before_the_work(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photo(12, 16, 4)).save("in/z.png")
    palette = Image.fromarray(photo(12, 16)).quantize(16)
    palette.save("in/y.png", transparency=3)
    with Path("in/x.png").open("wb") as file:
        write_png16(file, Picture(photo(12, 16, 3, np.uint16)), "test", 6)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for names, target, messages in (
        ("zy", "jpeg", ["in/z.png: jpeg cannot store", "in/y.png: jpeg cannot store", "alpha", "--format"]),
        ("x", "tiff", ["in/x.png: tifffile cannot be imported", "pip install"]),
    ):
        assert upscale(tiny_checkpoint, *(f"in/{name}.png" for name in names), "-o", "out", "--format", target) == 2
        error = capsys.readouterr().err
        assert all(message in error for message in messages)
        assert not Path("out").exists()
        assert upscale(tiny_checkpoint, "in", "-o", target, "--format", target) == 1
        printed = capsys.readouterr()
        assert all(message in printed.err for message in messages)
        assert printed.err.index(messages[0]) < printed.err.index("all images")
        assert f"{len(names)} of 5 images failed" in printed.err


def test_sides_beyond_the_limit_are_found_before_the_work(
    folder: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8192, 1)).save("in/wide.png")
    Image.new("L", (1, 32_751)).save("in/high.png")
    for name, words in (("wide", ["webp", "16383"]), ("high", ["jpeg", "65500"])):
        assert upscale(tiny_checkpoint, f"in/{name}.png", "-o", f"out.{words[0]}") == 2
        error = capsys.readouterr().err
        assert all(word in error for word in [*words, f"in/{name}.png", "--format"])
    assert sorted(os.listdir()) == ["in"]
    assert upscale(tiny_checkpoint, "in", "-o", "out", "--format", "jpeg") == 1
    printed = capsys.readouterr()
    assert "in/high.png: jpeg allows at most 65500" in printed.err
    assert "1 of 4 images failed" in printed.err
    assert sorted(os.listdir("out")) == ["a.jpg", "b.jpg", "wide.jpg"]
