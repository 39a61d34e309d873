"""Perceptual metrics are optional: a stand-in for pyiqa shows what happens with it, without it, without its weights."""

import csv
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from han_arch.errors import UserError
from han_arch.evaluation import board, rows, run
from han_arch.evaluation import metrics as perceptual
from han_arch.evaluation.score_cache import ScoreCache

CPU = torch.device("cpu")


class FakeMetric:
    """lpips: mean absolute difference of both; niqe: mean of the first alone, failing on a small image."""

    def __init__(self, name: str) -> None:
        self.metric_mode = "NR" if name == "niqe" else "FR"

    def __call__(self, *images: torch.Tensor) -> torch.Tensor:
        if self.metric_mode == "FR":
            return (images[0] - images[1]).abs().mean()
        if images[0].shape[-2] < 30:
            raise RuntimeError("too small")
        return images[0].mean()


@pytest.fixture
def fake_pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_metric(name: str, device: torch.device) -> FakeMetric:
        if name == "dists":
            raise OSError("no route to host\nand more lines")
        return FakeMetric(name)

    module = ModuleType("pyiqa")
    module.create_metric = create_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", module)


def test_without_the_package_all_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    metrics, notes = perceptual.load(["lpips", "niqe"], CPU)
    assert metrics == {}
    assert len(notes) == 1
    assert "lpips, niqe left out: they need the pyiqa package" in notes[0]
    assert perceptual.load([], CPU) == ({}, [])


def test_without_its_weights_one_is_left_out(fake_pyiqa: None) -> None:
    metrics, notes = perceptual.load(board.PERCEPTUAL, CPU)
    assert list(metrics) == ["lpips", "niqe"]
    assert notes == ["dists left out: pyiqa has not its weights and cannot fetch them: no route to host"]


def test_means_stand_in_the_tables(fake_pyiqa: None, board_options: dict[str, Any], tmp_path: Path) -> None:
    checked = board.check(board_options | {"perceptual": ["lpips", "niqe"], "variants": ["full"]})
    cache = ScoreCache(tmp_path / "cache")
    metrics, _ = perceptual.load(checked.perceptual, CPU)
    measured = run.run(checked, cache)
    results = perceptual.add(measured, metrics, checked.sets, cache)
    bicubic, dataset = results[0], checked.sets[0]
    inside = np.s_[2:-2, 2:-2]
    differences, means = [], []
    for pair in dataset.pairs:
        gt = pair.load(checked.protocol)[1][inside].astype(float)
        sr = cache.load_picture(bicubic.pictures[pair.name])[inside].astype(float)
        differences.append(abs(sr - gt).mean() / 255)
        if sr.shape[0] >= 30:
            means.append(sr.mean() / 255)
    assert len(means) == 2
    assert bicubic.perceptual == pytest.approx({"lpips": np.mean(differences), "niqe": np.mean(means)}, rel=1e-5)
    row = next(csv.DictReader(io.StringIO(rows.results_csv(results))))
    assert float(row["lpips"]) == pytest.approx(np.mean(differences), abs=1e-6)
    assert "Bicubic, lower is better, on RGB: lpips 0." in rows.markdown("x", results, "EDSR")

    def fail(*_: np.ndarray) -> float:
        raise AssertionError("measured again")

    again = perceptual.add(measured, {"lpips": fail}, checked.sets, cache)
    assert again[0].perceptual["lpips"] == bicubic.perceptual["lpips"]


def test_unknown_names_are_told(board_options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="perceptual must be a list of lpips, dists, niqe"):
        board.check(board_options | {"perceptual": ["fid"]})


def test_the_real_package_measures_what_it_is_given() -> None:
    """pyiqa's own PSNR, which needs no weights, through the same path as lpips, against the definition."""
    pytest.importorskip("pyiqa", reason="needs the perceptual extra: pyiqa")
    metrics, notes = perceptual.load(["psnr"], CPU)
    assert notes == []
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    sr = np.clip(gt.astype(int) + rng.integers(-9, 10, gt.shape), 0, 255).astype(np.uint8)
    error = np.mean((gt.astype(float) - sr) ** 2)
    assert metrics["psnr"](sr, gt) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
