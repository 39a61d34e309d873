"""`basicsr inspect` writes one PNG file. Each mistake gives a one-line message."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from han_arch import HAN
from han_arch.cli import main

SMALL = {"num_feat": 8, "num_group": 2, "num_block": 1, "squeeze_factor": 4, "upscale": 2}


@pytest.fixture(autouse=True)
def matplotlib() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install matplotlib)")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((80, 60), Image.Resampling.BICUBIC).save(path)
    return path


def checkpoint(path, channels: int = 3, **settings):
    torch.manual_seed(0)
    net = HAN(channels, channels, **(SMALL | settings))
    torch.save({"params": net.state_dict()}, path)
    return path


def inspect(photo, model, *more: str) -> int:
    return main(["inspect", str(photo), "--model", str(model), "--steps", "2", *more])


def test_picture_and_summary(tmp_path, photo, capsys) -> None:
    out = tmp_path / "new" / "inside.png"
    model = checkpoint(tmp_path / "net.pth")
    assert inspect(photo, model, "-o", str(out), "--window", "32", "--patch", "100", "60", "12", "--channels", "5") == 0
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 1000
    printed = capsys.readouterr().out
    assert "net.pth, x2, on photo.png (32 x 32 window at (37, 17) of 80 x 60 pixels)" in printed
    assert "alpha 0, adds nothing" in printed
    assert "beta 0 (changes nothing)" in printed
    assert "12 x 12 output patch at (100, 60)" in printed
    assert [path.name for path in out.parent.iterdir()] == ["inside.png"]


def test_names_that_look_like_formulas(tmp_path, photo) -> None:
    model = checkpoint(tmp_path / "$\\bad{$.pth")
    hostile = photo.rename(tmp_path / "$_{$ <b> \udcf6\n.png")
    assert inspect(hostile, model, "-o", str(tmp_path / "a.png"), "--window", "24") == 0
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_link_is_not_replaced(tmp_path, photo, capsys) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere.png")
    assert inspect(photo, checkpoint(tmp_path / "net.pth"), "-o", str(tmp_path / "a.png")) == 2
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "a.png").is_symlink()


def test_network_without_attentions_and_grey(tmp_path, photo, capsys) -> None:
    model = checkpoint(tmp_path / "net.pth", channels=1, layer_attention=None, spatial_attention=None)
    assert inspect(photo, model, "-o", str(tmp_path / "a.png"), "--window", "24") == 0
    printed = capsys.readouterr().out
    assert "this network has no LAM" in printed
    assert "this network has no CSAM" in printed


def test_grey_photo_in_a_colour_network(tmp_path, photo) -> None:
    grey = tmp_path / "grey.png"
    Image.open(photo).convert("L").save(grey)
    assert inspect(grey, checkpoint(tmp_path / "n.pth"), "-o", str(tmp_path / "a.png"), "--window", "24") == 0


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--patch", "150", "0", "16"], ["--patch 150 0 16", "160 x 120"]),
        (["--patch", "0", "0", "1"], ["--patch 0 0 1", "at least 2"]),
        (["--patch", "0", "0", "100", "--window", "20"], ["--patch SIZE 100", "--window 53", "20"]),
        (["--channels", "8"], ["--channels", "0 to 7", "[8]"]),
        (["--steps", "0"], ["--steps", "at least 1"]),
        (["--window", "15"], ["--window at least 16", "15"]),
        (["-o", "picture.jpg"], ["-o", ".png", "picture.jpg"]),
        (["-o", "/dev/null/a.png"], ["write /dev/null", "another folder"]),
        (["-o", "photo.png"], ["photo.png already exists", "--overwrite"]),
    ],
)
def test_mistakes_are_one_line(tmp_path, photo, capsys, monkeypatch, more: list[str], parts: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    before = photo.read_bytes()
    status = inspect(photo, checkpoint(tmp_path / "net.pth"), "-o", "out.png", *more)
    error = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert (status, len(error)) == (2, 1)
    assert all(part in error[0] for part in parts)
    assert photo.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pth", "photo.png"]


def test_bad_images_are_one_line(tmp_path, photo, capsys) -> None:
    model = checkpoint(tmp_path / "net.pth")
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no image")
    for path, message in ((cut, "damaged"), (text, "not an image"), (tmp_path / "none.png", "does not exist")):
        assert inspect(path, model, "-o", str(tmp_path / "out.png")) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1
        assert message in error
        assert path.name in error


def test_error_without_matplotlib_names_the_extra(tmp_path, photo, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert inspect(photo, tmp_path / "net.pth", "-o", str(tmp_path / "out.png")) == 2
    assert "pip install 'han_arch[plots]'" in capsys.readouterr().err
