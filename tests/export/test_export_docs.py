"""Run the commands and the Python blocks of docs/export.md in the order of the page."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exports import need, save_network
from PIL import Image

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text("utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines() if line.strip()
]
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)


def test_extras_of_the_page_exist(repository: Path) -> None:
    setup = (repository / "setup.py").read_text()
    extras = re.findall(r"han_arch\[(\w+)\]", PAGE)
    assert len(extras) == 4
    for extra in extras:
        assert f'"{extra}": [' in setup


@pytest.mark.slow
def test_commands_by_pasting(tmp_path: Path) -> None:
    need("onnx")
    need("openvino")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (pip install matplotlib)")
    save_network(tmp_path / "net_g_latest.pth", upscale=4, num_feat=32, squeeze_factor=8)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).resize((60, 50), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    ran = 0
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "basicsr":
            words = [sys.executable, "-m", "han_arch", *words[1:]]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=200)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            ran += 1
    assert ran == 5
    made = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert {"net_g_latest.onnx", "han.xml", "han.bin", "net_g_latest.pt2", "inside.png", "patch.png"} <= made


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(len(PYTHON_BLOCKS)))
def test_python_block(block: str, tmp_path: Path) -> None:
    need("onnx")
    if "spandrel" in block:
        pytest.importorskip("spandrel", reason="spandrel is not installed (pip install spandrel)")
    done = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
