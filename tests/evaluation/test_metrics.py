"""Tests of the optional metrics: with a fake pyiqa, without pyiqa, and without the weights of a metric."""

import csv
import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from han_arch.evaluation import board, comparison, rows, run, score
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Metric, ScoreCache

CPU = torch.device("cpu")


class FakeMetric:
    """A fake metric: lpips returns the mean absolute difference; niqe returns the mean, but fails on a small image."""

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


def test_without_the_package_all_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    loaded, notes = score.load_metrics(["lpips", "niqe"], CPU)
    assert loaded == {}
    (note,) = notes
    for part in ("lpips, niqe", "pip install pyiqa"):
        assert part in note
    assert score.load_metrics([], CPU) == ({}, [])


def test_without_its_weights_one_is_skipped(fake_pyiqa: None) -> None:
    loaded, notes = score.load_metrics(score.optional_names(), CPU)
    assert list(loaded) == ["lpips", "niqe"]
    (note,) = notes
    assert "dists" in note
    assert note.endswith("no route to host")


def test_the_tables_have_the_means(
    fake_pyiqa: None, board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = board.load(board_options | {"perceptual": ["lpips", "niqe"], "variants": ["full"]})
    cache = ScoreCache(tmp_path / "cache")
    results = run.run(checked, cache)
    bicubic, dataset = results[0], checked.sets[0]
    inside = np.s_[2:-2, 2:-2]
    differences, means = [], []
    for image in dataset.images:
        gt = image.load(checked.protocol)[1][inside].astype(float)
        sr = cache.load_picture(bicubic.pictures[image.name])[inside].astype(float)
        differences.append(abs(sr - gt).mean() / 255)
        if sr.shape[0] >= 30:
            means.append(sr.mean() / 255)
    assert len(means) == 2
    assert bicubic.perceptual == pytest.approx({"lpips": np.mean(differences), "niqe": np.mean(means)}, rel=1e-5)
    row = next(csv.DictReader(io.StringIO(rows.results_csv(results))))
    assert float(row["lpips"]) == pytest.approx(np.mean(differences), abs=1e-6)
    assert "Bicubic, metrics on RGB (lower is better): lpips 0." in rows.markdown("x", results, "EDSR")

    def fail(*_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("measured again")

    monkeypatch.setattr(FakeMetric, "__call__", fail)
    assert [result.perceptual for result in run.run(checked, cache)] == [result.perceptual for result in results]


def test_a_new_metric_is_one_record(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record in METRICS is enough: the option check, cache, tables and page then support the new metric."""

    def share_of_equal_samples(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        return float((protocol.cut_border(sr) == protocol.cut_border(gt)).mean())

    monkeypatch.setitem(score.METRICS, "equal", Metric("equal", True, 3, share_of_equal_samples))
    models = {"Bicubic": {"type": "Bicubic"}}
    checked = board.load(board_options | {"perceptual": ["equal"], "models": models, "baseline": "Bicubic"})
    cache = ScoreCache(tmp_path / "cache")
    results = run.run(checked, cache)
    _, gt = checked.sets[0].images[0].load(checked.protocol)
    key = results[0].pictures["a"]
    wanted = share_of_equal_samples(cache.load_picture(key), gt, checked.protocol)
    assert 0 < wanted < 1
    assert cache.load_value(key, "equal") == wanted
    mean = results[0].perceptual["equal"]
    assert f"Bicubic, metrics on RGB (higher is better): equal {mean:.3f}." in rows.markdown("x", results, "Bicubic")
    row = next(csv.DictReader(io.StringIO(rows.results_csv(results))))
    assert float(row["equal"]) == pytest.approx(mean, abs=1e-6)


def test_lower_is_better_where_the_metric_says_so() -> None:
    worse = [0.2 + i / 1000 for i in range(20)]
    result = comparison.compare(worse, [0.1] * 20, score.METRICS["lpips"])
    assert (result.wins, result.losses, result.verdict) == (0, 20, "behind")


def test_the_real_package_agrees_with_the_definition_of_psnr(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PSNR of pyiqa, which needs no weights, is measured in the same way as lpips."""
    pytest.importorskip("pyiqa", reason="needs the perceptual extra: pyiqa")
    monkeypatch.setitem(score.METRICS, "psnr", Metric("psnr", True, 2))
    loaded, notes = score.load_metrics(["psnr"], CPU)
    assert notes == []
    rng = np.random.default_rng(0)
    gt = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
    sr = np.clip(gt.astype(int) + rng.integers(-9, 10, gt.shape), 0, 255).astype(np.uint8)
    psnr = 10 * np.log10(255**2 / np.mean((gt.astype(float) - sr) ** 2))
    assert loaded["psnr"](sr, gt, Protocol("BI", 4, crop_border=0)) == pytest.approx(psnr, abs=1e-3)
