"""Tests of PSNR and SSIM: edge cases, comparison with scikit-image, and published bicubic scores of real images."""

import csv
import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from han_arch.errors import UserError
from han_arch.evaluation import score, sets
from han_arch.evaluation.protocol import Protocol

X4 = Protocol("BI", 4)
# Published bicubic PSNR in dB, from the tables of RCAN and (for BD) DRLN. For Set14, grey values are compared.
PUBLISHED_BICUBIC = {
    ("BI", 2): {"Set5": 33.66, "Set14": 30.24, "B100": 29.56},
    ("BI", 3): {"Set5": 30.39, "Set14": 27.55, "B100": 27.21},
    ("BI", 4): {"Set5": 28.42, "Set14": 26.00, "B100": 25.96},
    ("BD", 3): {"Set5": 28.78, "Set14": 26.38, "B100": 26.33},
}
SET14_AS_RGB = {2: 30.32, 3: 27.63, 4: 26.09}


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    gt = cv2.blur(generator.integers(0, 256, (48, 60, 3)).astype(np.uint8), (3, 3))
    noise = generator.integers(-9, 10, gt.shape)
    return (gt.astype(int) + noise).clip(0, 255).astype(np.uint8), gt


@pytest.mark.parametrize("scale", [2, 4])
def test_metrics_equal_the_authors_matlab(scale: int, shared_data: Path, basicsr: ModuleType) -> None:
    folder = shared_data / "known_answers"
    with (folder / "rcan_matlab.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["scale"] == str(scale)]
    assert len(rows) == 5
    for row in rows:
        name = row["image"]
        gt = sets.load_gt(folder / f"x{scale}" / f"{name}_HR_x{scale}.png", Protocol("BI", scale))
        sr = sets.load_rgb_or_grey(folder / f"x{scale}" / f"{name}_RCAN_x{scale}.png")
        one = score.measure(sr, gt, Protocol("BI", scale))
        assert one.psnr == pytest.approx(float(row["psnr_y_db"]), abs=1e-5), name
        assert one.ssim == pytest.approx(float(row["ssim_y"]), abs=1e-6), name


def bicubic_psnr(folder: Path, protocol: Protocol) -> float:
    scores = {}
    for path in sorted(folder.glob("*.png")):
        gt = sets.load_gt(path, protocol)
        degradation = protocol.lr_degradation
        scores[path.stem] = score.measure(degradation.upscale(degradation.degrade(gt)), gt, protocol)
    mean = score.mean_score(scores)
    assert mean.images == len(scores) > 0
    return mean.psnr


@pytest.mark.parametrize(("kind", "scale"), PUBLISHED_BICUBIC)
@pytest.mark.parametrize("name", ["Set5", "Set14", pytest.param("B100", marks=pytest.mark.slow)])
def test_bicubic_rows_are_the_published_ones(
    kind: str, scale: int, name: str, shared_data: Path, basicsr: ModuleType
) -> None:
    protocol = Protocol(kind, scale, grey="direct")
    psnr = bicubic_psnr(shared_data / "benchmarks" / name / "HR", protocol)
    assert psnr == pytest.approx(PUBLISHED_BICUBIC[kind, scale][name], abs=0.02)


def test_the_grey_rule_moves_set14(shared_data: Path, basicsr: ModuleType) -> None:
    psnr = bicubic_psnr(shared_data / "benchmarks" / "Set14" / "HR", X4)
    assert psnr == pytest.approx(SET14_AS_RGB[4], abs=0.02)


@pytest.mark.parametrize("channel", ["Y", "RGB"])
def test_scikit_image_agrees(channel: str, pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    sr, gt = pair
    one = score.measure(sr, gt, replace(X4, channel=channel))
    inside = [image[4:-4, 4:-4].astype(np.float64) for image in (gt, sr)]
    if channel == "Y":
        inside = [(image @ np.array([65.481, 128.553, 24.966])) / 255 + 16 for image in inside]
    axis = None if channel == "Y" else -1
    ssim = metrics.structural_similarity(
        *inside, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=axis
    )
    # BasicSR computes Y in float32.
    assert one.psnr == pytest.approx(metrics.peak_signal_noise_ratio(*inside, data_range=255), abs=1e-4)
    assert one.ssim == pytest.approx(ssim, abs=1e-5)


def test_equal_images_are_inf_and_not_in_the_mean(pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    sr, gt = pair
    scores = {"a": score.measure(sr, gt, X4), "same": score.measure(gt, gt, X4)}
    assert scores["same"].psnr == math.inf
    result = score.mean_score(scores)
    assert (result.psnr, result.ssim, result.images) == (scores["a"].psnr, scores["a"].ssim, 1)
    assert result.left_out == {"same": scores["same"]}
    assert "same: inf dB / 1.0000" in result.note


def test_images_smaller_than_border_or_window_are_nan(pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    sr, gt = pair
    small = score.measure(sr[:16, :16], gt[:16, :16], X4)
    assert math.isfinite(small.psnr)
    assert math.isnan(small.ssim)
    tiny = score.measure(sr[:8], gt[:8], X4)
    assert math.isnan(tiny.psnr)
    assert math.isnan(tiny.ssim)
    result = score.mean_score({"small": small, "tiny": tiny})
    assert result.images == 0
    assert math.isnan(result.psnr)


def test_a_mean_over_two_protocols_is_rejected(pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    sr, gt = pair
    scores = {"a": score.measure(sr, gt, X4), "b": score.measure(sr, gt, replace(X4, channel="RGB"))}
    with pytest.raises(ValueError, match="same protocol"):
        score.mean_score(scores)


def test_shapes_and_types_must_agree(pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    sr, gt = pair
    with pytest.raises(ValueError, match=r"\(48, 60, 3\).*\(47, 60, 3\)"):
        score.measure(sr[1:], gt, X4)
    with pytest.raises(ValueError, match="uint8"):
        score.measure(sr / 255, gt / 255, X4)


def test_a_number_comes_with_its_protocol(pair: tuple[np.ndarray, np.ndarray], basicsr: ModuleType) -> None:
    assert str(score.measure(*pair, X4)).endswith(f"({X4.name})")


@pytest.mark.parametrize(("crop", "size"), [("mod-scale", (48, 60)), ("GTmod12", (48, 60)), ("mod-scale", (50, 61))])
def test_hr_is_cut_at_the_bottom_and_right(crop: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    got = sets.load_gt(tmp_path / "a.png", replace(X4, crop_gt=crop))
    np.testing.assert_array_equal(got, image[:48, :60])


def test_grey_files_follow_the_grey_rule(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (8, 12)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "g.png"), grey)
    assert sets.load_gt(tmp_path / "g.png", replace(X4, grey="direct")).shape == (8, 12)
    np.testing.assert_array_equal(sets.load_gt(tmp_path / "g.png", X4), np.dstack([grey] * 3))


def test_unusable_hr_is_one_clear_line(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((3, 40, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.zeros((40, 40, 4), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "alpha.png").read_bytes()[:60])
    for name, message in (("tiny", "smaller than 4"), ("alpha", "alpha channel"), ("cut", "damaged")):
        with pytest.raises(UserError, match=message) as caught:
            sets.load_gt(tmp_path / f"{name}.png", X4)
        assert f"{name}.png" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_lmdb_is_named_as_such(tmp_path):
    for name in ("data.mdb", "lock.mdb", "meta_info.txt"):
        (tmp_path / name).write_bytes(b"")
    faults: list[str] = []
    sets.read_set("mine", {"dataroot_gt": str(tmp_path)}, Protocol("BI", 2), faults)
    assert len(faults) == 1
    assert "LMDB" in faults[0]
    assert str(tmp_path) in faults[0]
