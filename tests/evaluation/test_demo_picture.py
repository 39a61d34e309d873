"""The picture and the table of the demo."""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score


@pytest.fixture
def demo_picture(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import scripts/demo_picture.py and return the module."""
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    import demo_picture

    return demo_picture


def test_table_and_picture(demo_picture: ModuleType, tmp_path: Path) -> None:
    hr = np.full((60, 80, 3), 90, np.uint8)
    hr[30:50, 40:70] = np.random.default_rng(0).integers(0, 256, (20, 30, 3))
    photo = demo_picture.Photo("noise", hr, {"blurred": cv2.blur(hr, (5, 5)), "clipped": hr.clip(0, 240)})
    x4 = Protocol("BI", 4)
    one = {"blurred": Score(20.0, 0.5, x4), "clipped": Score(30.0, 0.7, x4)}
    two = {"blurred": Score(22.0, 0.6, x4), "clipped": Score(34.0, 0.9, x4)}
    *lines, blank, protocol = demo_picture.table(["a", "b"], [one, two]).splitlines()
    assert (blank, protocol) == ("", f"Protocol: {x4.name}")
    assert len({line.count("|") for line in lines}) == 1
    assert "21.00 dB / 0.5500" in lines[-1]
    assert "32.00 dB / 0.8000" in lines[-1]
    demo_picture.draw([photo, photo], [one, two], tmp_path / "out.png", title="title", size=24)
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture.std() > 10
