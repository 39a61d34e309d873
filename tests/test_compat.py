"""BasicSR can be imported with current packages. compat changes only broken parts and lists every change."""

import importlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from han_arch import compat
from han_arch.errors import UserError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_basicsr_imports_after_han_arch(basicsr: types.ModuleType) -> None:
    from basicsr.data import degradations
    from torchvision.transforms.functional import rgb_to_grayscale

    assert degradations.rgb_to_grayscale is rgb_to_grayscale


def test_only_missing_modules_are_replaced() -> None:
    """Existing modules stay unchanged, and installing the fallbacks imports nothing."""
    code = (
        "import sys, han_arch\n"
        "from han_arch import compat\n"
        "print(len(compat.changes()), 'torchvision' in sys.modules)\n"
        "compat.MOVED_MODULES['json.decoder'] = ('math', 'a test')\n"
        "compat.MOVED_MODULES['json.gone'] = ('math', 'a test')\n"
        "import json.decoder, json.gone\n"
        "print(hasattr(json.decoder, 'JSONDecoder'), json.gone.pi, list(compat.changes()))\n"
    )
    lines = run_python(code).stdout.splitlines()
    assert lines == ["0 False", "True 3.141592653589793 ['json.gone']"]


SPAWNING_SCRIPT = """
import sys
import han_arch
from han_arch import compat

if __name__ == "__main__":
    compat.require_basicsr()
    from basicsr.data.paired_image_dataset import PairedImageDataset
    from torch.utils.data import DataLoader

    options = {"dataroot_gt": sys.argv[1], "dataroot_lq": sys.argv[1], "io_backend": {"type": "disk"}, "scale": 1}
    dataset = PairedImageDataset({**options, "phase": "val"})
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn")
    print([tuple(batch["lq"].shape) for batch in loader])
"""


@pytest.mark.usefixtures("basicsr")
def test_spawned_worker_reads_through_basicsr(tmp_path: Path) -> None:
    """With start method spawn, a worker unpickles BasicSR's data set before it runs any of our functions."""
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "one.png"), np.zeros((5, 7, 3), np.uint8))
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "photos")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[(1, 3, 5, 7)]", done.stderr


def test_replace_records_and_refuses_unknown_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("some_module")
    module.Thing = type("Thing", (), {"size": 1})
    monkeypatch.setitem(sys.modules, "some_module", module)
    before = compat.changes()
    compat.replace("some_module", "Thing.size", 2, "one is too few")
    compat.replace("some_module", "Thing.size", module.Thing.size, "again")
    assert module.Thing.size == 2
    assert compat.changes() == {**before, "some_module.Thing.size": "one is too few"}
    with pytest.raises(AttributeError):
        compat.replace("some_module", "Thing.weight", 3, "there is none")


@pytest.mark.parametrize(("version", "message"), [((3, 13, 0), "Python 3.13"), ((3, 11, 0), "pip install")])
def test_basicsr_absent_is_one_line(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int], message: str
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "basicsr" else real(name))
    named = types.SimpleNamespace(major=version[0], minor=version[1])
    fake = type("Version", (tuple,), vars(named))(version)
    monkeypatch.setattr(sys, "version_info", fake)
    with pytest.raises(UserError, match=message) as error:
        compat.require_basicsr()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("from han_arch.winograd import use_winograd", "use_winograd"),
        ("from han_arch.winograd.convolution import conv3x3", "conv3x3"),
        ("from han_arch.export.exporting import export", "export"),
    ],
)
def test_old_module_names_of_documents_still_import(statement: str, name: str) -> None:
    found: dict[str, object] = {}
    exec(statement, found)
    assert callable(found[name])
