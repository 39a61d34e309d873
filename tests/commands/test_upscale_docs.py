"""Run every command and the Python block of docs/upscale.md in order, on small pictures and networks."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from known_engines import photo, save_checkpoint, tiny_net
from PIL import Image

from han_arch import HAN
from han_arch.cli import main
from han_arch.inference import engines

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "upscale.md").read_text("utf-8").split("## Export")[0]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.M | re.S)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]
PYTHON = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)


def stand_in(name_or_path: object) -> HAN:
    """Return a small network for the scale at the end of the model's name."""
    name = str(name_or_path)
    return tiny_net(upscale=int(name[-1]) if name.startswith("han-s-x") else 4)


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use small networks in place of the zoo's, and remove them from the cache after the test."""
    monkeypatch.setattr(engines, "load_model", stand_in)
    engines.loaded_engine.cache_clear()
    yield
    engines.loaded_engine.cache_clear()


@pytest.mark.usefixtures("workplace", "stand_ins")
def test_commands_one_after_the_other() -> None:
    ran = 0
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] != "basicsr" or "<" in words:
            continue
        assert main(words[1:]) == 0, command
        ran += 1
    assert ran == 5
    sizes = {name: Image.open(name).size for name in ("large.png", "large/a.png", "large/below/b.jpg", "webp/c.webp")}
    assert set(sizes.values()) == {(96, 64)}
    assert Image.open("large/scan.png").size == (48, 32)
    assert Image.open("mine/photo_compare.png").size == (2 * 96, 64)
    exec(PYTHON[0], {})
    np.testing.assert_array_equal(np.asarray(Image.open("from_python.png")), np.asarray(Image.open("large.png")))


@pytest.mark.usefixtures("workplace")
def test_the_pipe() -> None:
    (command,) = [command for command in COMMANDS if "<" in command]
    command = command.replace("basicsr", f"{shlex.quote(sys.executable)} -m han_arch")
    command = command.replace("- -o -", "- -o - --model net_g_latest.pth")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open("large.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (96, 64))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create the files that docs/upscale.md uses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "below").mkdir(parents=True)
    for name in ("photo.jpg", "photos/a.png", "photos/below/b.jpg", "photos/c.jpg", "scan.tif"):
        Image.fromarray(photo(16, 24)).save(tmp_path / name)
    save_checkpoint(tmp_path / "net_g_latest.pth", tiny_net(upscale=4))
