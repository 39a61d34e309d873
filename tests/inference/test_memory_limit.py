"""The whole command stays below its memory limit: reading, tiles and writing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from known_engines import photo, save_checkpoint, tiny_net
from PIL import Image

COMMAND = """
import re, sys
from pathlib import Path
from han_arch.cli import main
assert main(sys.argv[1:]) == 0
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_the_peak_of_a_run_in_tiles_is_below_the_limit(tmp_path: Path) -> None:
    height, width, memory = 2000, 3000, 900_000_000
    Image.fromarray(photo(height, width)).save(tmp_path / "photo.jpg", quality=90)
    model = save_checkpoint(tmp_path / "tiny.pth", tiny_net())
    words = ["upscale", str(tmp_path / "photo.jpg"), "-o", str(tmp_path / "large.png"), "--memory", str(memory)]
    command = [sys.executable, "-c", COMMAND, *words, "--model", str(model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    assert re.search(r"tiles-\d+-\d+", done.stdout), done.stdout
    peak = 1024 * int(done.stdout.splitlines()[-1])
    assert peak < memory + 4 * height * width * 3  # the upscaled image is not counted
