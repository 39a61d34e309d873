"""Tests of the ablation: its option files, its tables, and its script, which resumes after an interruption."""

import csv
import io
import os
import statistics
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ablation
import ablation_tables
import numpy as np
import pytest
from releases import write_benchmarks
from scipy import stats
from test_reproduce import prepare_data, write_photos

import han_arch
from han_arch import locks
from han_arch.errors import UserError
from han_arch.evaluation import score
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.score import Score
from han_arch.opt import read

PROTOCOL = Protocol("BI", 4)


def options(model: str) -> dict:
    return read.read(ablation_tables.MODELS[model])


def test_the_recipes_differ_in_nothing_but_the_network() -> None:
    first, *others = [options(model) for model in ablation_tables.MODELS]
    assert first["train"]["total_iter"] >= 3000
    for other in others:
        assert {k: v for k, v in other.items() if k not in ("name", "network_g")} == {
            k: v for k, v in first.items() if k not in ("name", "network_g")
        }


@pytest.mark.usefixtures("basicsr")
def test_the_networks_share_the_backbone_and_the_size() -> None:
    han_arch.register()
    from basicsr.archs import build_network

    nets = {model: build_network(options(model)["network_g"]) for model in ablation_tables.MODELS}
    sizes = {model: sum(p.numel() for p in net.parameters()) for model, net in nets.items()}
    assert all(120_000 < size < 180_000 for size in sizes.values())
    assert abs(sizes["EDSR"] / sizes["HAN"] - 1) < 0.01
    backbone = nets["RCAN"].state_dict().keys()
    for model, net in nets.items():
        if model.startswith("HAN"):
            assert backbone <= net.state_dict().keys()
    assert not any(key.startswith("lam.") for key in nets["HAN without LAM"].state_dict())
    assert not any(key.startswith("csam.") for key in nets["HAN without CSAM"].state_dict())
    assert "lam.log_temperature" in nets["HAN, cosine LAM"].state_dict()


@pytest.fixture
def psnr() -> dict[tuple[str, int], np.ndarray]:
    """Return invented PSNR values of 12 images for a network and seed. HAN has slightly higher values."""
    generator = np.random.default_rng(0)
    hard = generator.normal(28, 3, 12)
    return {
        (model, seed): hard + generator.normal(0.1 * (model == "HAN"), 0.03, 12)
        for model in ("RCAN", "HAN")
        for seed in (0, 1, 2)
    }


@pytest.fixture
def folder(psnr: dict[tuple[str, int], np.ndarray], tmp_path: Path) -> Path:
    runs, results = [], []
    for (model, seed), values in psnr.items():
        gates = (0.5 + seed, -0.25) if model == "HAN" else (None, None)
        runs.append(ablation_tables.TrainedRun(model, seed, 3000, *gates))
        scores = {f"image{i}": Score(float(value), 0.8, PROTOCOL) for i, value in enumerate(values)}
        results.append(
            SimpleNamespace(
                contestant=runs[-1].label, dataset="B100", scores=scores, mean=score.mean_score(scores),
                protocol=PROTOCOL, cost=SimpleNamespace(parameters=150000), weights_sha256="x",
            )
        )  # fmt: skip
    for name, text in zip(
        (ablation_tables.RUNS, ablation_tables.IMAGES), ablation_tables.tables(runs, reversed(results)), strict=True
    ):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_table_has_mean_spread_and_the_paired_test(folder: Path, psnr: dict[tuple[str, int], np.ndarray]) -> None:
    text = ablation_tables.markdown(folder)
    means = [psnr["HAN", seed].mean() for seed in (0, 1, 2)]
    assert f"| HAN | 150,000 | 3 | {np.mean(means):.3f} ± {statistics.stdev(means):.3f} | 0.5, 1.5, 2.5 | -0.25" in text
    assert PROTOCOL.name in text
    averaged = {model: np.mean([psnr[model, seed] for seed in (0, 1, 2)], axis=0) for model in ("RCAN", "HAN")}
    difference = averaged["HAN"] - averaged["RCAN"]
    wins = int((difference > 0).sum())
    p = stats.binomtest(wins, 12).pvalue
    (line,) = [line for line in text.splitlines() if line.startswith("| HAN | B100 |")]
    assert line.startswith(f"| HAN | B100 | {difference.mean():+.3f} [")
    assert f"| {wins} : {12 - wins} | {p:.3g} | ahead |" in line
    assert "| RCAN | B100 | " in text.split("Each network compared with HAN")[1]


def test_tables_of_different_runs_are_refused(folder: Path) -> None:
    images = (folder / ablation_tables.IMAGES).read_text()
    (folder / ablation_tables.IMAGES).write_text(images.replace("B100", "Set5"))
    with pytest.raises(UserError, match="must have the same networks and sets"):
        ablation_tables.markdown(folder)
    (folder / ablation_tables.IMAGES).write_text("a,b\n")
    with pytest.raises(UserError, match="must have rows with the columns"):
        ablation_tables.markdown(folder)


def test_failed_images_are_marked_in_the_tables(psnr: dict[tuple[str, int], np.ndarray], tmp_path: Path) -> None:
    runs, results = [], []
    for (model, seed), values in psnr.items():
        runs.append(ablation_tables.TrainedRun(model, seed, 3000, None, None))
        values = np.where(np.arange(12) < (11 if model == "HAN" and seed == 1 else 0), np.nan, values)
        scores = {f"image{i}": Score(float(value), 0.8, PROTOCOL) for i, value in enumerate(values)}
        results.append(
            SimpleNamespace(
                contestant=runs[-1].label, dataset="B100", scores=scores, mean=score.mean_score(scores),
                protocol=PROTOCOL, cost=SimpleNamespace(parameters=150000), weights_sha256="x",
            )
        )  # fmt: skip
    for name, text in zip(ablation.FILES, ablation_tables.tables(runs, results), strict=False):
        (tmp_path / name).write_text(text)
    text = ablation_tables.markdown(tmp_path)
    assert "nan" not in text
    assert "(1 of 12 images)" in next(line for line in text.splitlines() if line.startswith("| HAN | 150,000"))
    assert "[-] (1 of 12 images)" in next(line for line in text.splitlines() if line.startswith("| HAN | B100"))


@pytest.mark.usefixtures("basicsr")
def test_the_script_refuses_before_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "README.md").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["ablation.py", "--out", str(tmp_path)])
    monkeypatch.setattr(ablation, "train_all", lambda *_: pytest.fail("trained before the refusal"))
    with pytest.raises(UserError, match=r"README\.md"):
        ablation.main()
    (tmp_path / "README.md").unlink()
    with locks.held(Path("experiments", "ablation_cache"), "the ablation"), pytest.raises(UserError, match="progress"):
        ablation.main()


@pytest.mark.slow
@pytest.mark.usefixtures("basicsr")
def test_the_script_trains_measures_and_resumes(tmp_path: Path, repository: Path) -> None:
    write_benchmarks(tmp_path / "datasets")
    prepare_data(tmp_path, write_photos(tmp_path / "photos", 6))

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, str(repository / "scripts" / "ablation.py"), "--out", "out", "--iterations", "2", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=400, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("--seeds", "0", "--models", "RCAN", "HAN")
    kept = tmp_path / "experiments" / "ablation_HAN_x4_seed0_2iter" / "models" / "net_g_latest.pth"
    before = kept.stat().st_mtime_ns
    text = run("--seeds", "0", "1", "--models", "RCAN", "HAN", "--jobs", "2")
    assert kept.stat().st_mtime_ns == before
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "runs.csv").read_text())))
    assert {(row["model"], row["seed"]) for row in rows} == {(m, s) for m in ("RCAN", "HAN") for s in "01"}
    assert len({row["psnr_db"] for row in rows}) == len(rows)  # the results differ between seeds and between networks
    assert all(row["alpha"] and row["beta"] for row in rows if row["model"] == "HAN")
    assert "| HAN | 159,405 | 2 |" in text
    assert text in (tmp_path / "out" / "README.md").read_text() + "\n"
