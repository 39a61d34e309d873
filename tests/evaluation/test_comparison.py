"""The comparison picture and its numbers."""

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from han_arch.evaluation import comparison
from han_arch.evaluation.protocol import Protocol


@pytest.fixture
def photo() -> comparison.Photo:
    generator = np.random.default_rng(0)
    hr = np.full((60, 80, 3), 90, np.uint8)
    hr[30:50, 40:70] = generator.integers(0, 256, (20, 30, 3))
    blurred = cv2.blur(hr, (5, 5))
    return comparison.Photo(
        "noise", hr, {"blurred": blurred, "same but one": np.where(hr > 250, 240, hr).astype(np.uint8)}
    )


def test_scores_agree_with_scikit_image(photo: comparison.Photo, basicsr: ModuleType) -> None:
    """PSNR and SSIM of scikit-image on MATLAB's Y, border cut."""
    metrics = pytest.importorskip("skimage.metrics")

    def luma(image: np.ndarray) -> np.ndarray:
        return (image[4:-4, 4:-4] @ np.array([65.481, 128.553, 24.966])) / 255 + 16

    image = photo.versions["blurred"]
    score = comparison.measure(image, photo.hr, 4)
    ours, theirs = luma(photo.hr), luma(image)
    assert score.psnr == pytest.approx(metrics.peak_signal_noise_ratio(ours, theirs, data_range=255), abs=1e-4)
    ssim = metrics.structural_similarity(
        ours, theirs, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert score.ssim == pytest.approx(ssim, abs=1e-4)


def test_sizes_must_agree(photo: comparison.Photo) -> None:
    with pytest.raises(ValueError, match=r"as large as HR, \(60, 80, 3\); got \(60, 79, 3\)"):
        comparison.measure(photo.hr[:, 1:], photo.hr, 4)


def test_table_and_picture(photo: comparison.Photo, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    x4 = Protocol("BI", 4)
    one = {"blurred": comparison.Score(20.0, 0.5, x4), "same but one": comparison.Score(30.0, 0.7, x4)}
    two = {"blurred": comparison.Score(22.0, 0.6, x4), "same but one": comparison.Score(34.0, 0.9, x4)}
    *lines, blank, protocol = comparison.table(["a", "b"], [one, two]).splitlines()
    assert (blank, protocol) == ("", f"Protocol: {x4.name}")
    assert len({len(line) for line in lines}) == 1
    assert "21.00 dB / 0.5500" in lines[-1]
    assert "32.00 dB / 0.8000" in lines[-1]
    comparison.draw([photo, photo], [one, two], tmp_path / "out.png", title="title", size=24)
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture.std() > 10
