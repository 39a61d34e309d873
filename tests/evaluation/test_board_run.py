"""Runs of a small leaderboard: scores, variants, cache, costs, tables."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from han_arch.evaluation import board, contestants, cost, rows, run, score
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score import ScoreCache
from han_arch.images.write import encode_png
from han_arch.inference import variants


@pytest.fixture
def checked(measured: tuple[board.Board, list[SetResult]]) -> board.Board:
    return measured[0]


@pytest.fixture
def results(measured: tuple[board.Board, list[SetResult]]) -> list[SetResult]:
    return measured[1]


def test_every_contestant_variant_and_set_has_a_result(results: list[SetResult]) -> None:
    assert [(result.label, result.protocol.grey) for result in results] == [
        ("Bicubic", "as_rgb"),
        ("Bicubic", "direct"),
        ("HAN", "as_rgb"),
        ("HAN (self_ensemble)", "as_rgb"),
        ("EDSR", "as_rgb"),
        ("EDSR (self_ensemble)", "as_rgb"),
    ]
    assert all(list(result.scores) == ["a", "b", "c"] for result in results)


def test_scores_equal_those_made_by_hand(results: list[SetResult], checked: board.Board) -> None:
    """Make LR, run the network, round and measure in the test itself, and compare the scores."""
    net = next(one for one, _ in checked.runs if one.name == "HAN").net
    assert net is not None
    lq, gt = checked.sets[0].images[1].load(checked.protocol)
    tensor = torch.from_numpy(lq.transpose(2, 0, 1).copy())[None] / 255.0
    with torch.no_grad():
        mean = (
            sum(
                torch.rot90(net(torch.rot90(flipped, turn, (2, 3))), -turn, (2, 3)).flip(axes)
                for axes in ([], [3])
                for flipped in (tensor.flip(axes),)
                for turn in range(4)
            )
            / 8
        )
        plain = net(tensor)
    for result, output in ((results[2], plain), (results[3], mean)):
        sr = np.rint((output[0].clamp(0, 1) * 255).numpy()).astype(np.uint8).transpose(1, 2, 0)
        assert result.scores["b"].psnr == pytest.approx(score.measure(sr, gt, checked.protocol).psnr, abs=0.01)


def test_cache_is_by_weights_protocol_and_image(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ScoreCache(tmp_path / "cache")
    checked = board.load(board_options)
    first = run.run(checked, cache)
    called: list[str] = []
    real = contestants.Contestant.upscale

    def spy(self: contestants.Contestant, *args: Any) -> np.ndarray:
        called.append(self.name)
        return real(self, *args)

    monkeypatch.setattr(contestants.Contestant, "upscale", spy)
    monkeypatch.setattr(cost, "measure", lambda runs, *rest: {
        (one.name, variant): cost.Cost(0, 0.0, 1.0, 0.0, 16) for one, variant in runs
    })  # fmt: skip
    again = run.run(checked, cache)
    assert called == []
    assert [r.scores for r in again] == [r.scores for r in first]

    # After a contestant is added, only it is measured. With another protocol, all are measured.
    weights = torch.load(board_options["models"]["EDSR"]["checkpoint"], weights_only=True)
    weights["params"]["conv_last.bias"] += 0.1
    torch.save(weights, tmp_path / "other.pth")
    board_options["models"]["New"] = board_options["models"]["EDSR"] | {"checkpoint": str(tmp_path / "other.pth")}
    run.run(board.load(board_options), cache)
    assert called == ["New"] * 6
    called.clear()
    run.run(board.load(board_options | {"protocol": {"channel": "RGB"}, "variants": ["full"]}), cache)
    assert sorted(set(called)) == ["Bicubic", "EDSR", "HAN", "New"]


def test_an_interrupted_board_continues(
    checked: board.Board, results: list[SetResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ScoreCache(tmp_path / "cache")
    real, count = ScoreCache.store, 0

    def stop_after_four(self: ScoreCache, *args: Any) -> None:
        nonlocal count
        count += 1
        if count > 4:
            raise KeyboardInterrupt
        real(self, *args)

    monkeypatch.setattr(ScoreCache, "store", stop_after_four)
    with pytest.raises(KeyboardInterrupt):
        run.run(checked, cache)
    monkeypatch.setattr(ScoreCache, "store", real)
    whole = run.run(checked, cache)
    assert [r.scores for r in whole] == [r.scores for r in results]
    # A damaged file in the cache is measured again.
    damaged = next((tmp_path / "cache").glob("*.json"))
    damaged.write_text(damaged.read_text()[:10])
    assert [r.scores for r in run.run(checked, cache)] == [r.scores for r in results]


def test_comparisons_are_with_the_baseline(results: list[SetResult]) -> None:
    han, edsr = results[2], results[4]
    assert edsr.comparison is None
    assert han.comparison is not None
    differences = [han.scores[name].psnr - edsr.scores[name].psnr for name in "abc"]
    assert han.comparison.difference == pytest.approx(np.mean(differences))
    assert han.comparison.verdict == "not settled"
    assert results[1].comparison is None  # the baseline has no result with this protocol


def test_published_cells_are_of_the_same_protocol_and_variant(results: list[SetResult]) -> None:
    found = {(r.label, r.protocol.grey): r.published and r.published.score.psnr for r in results}
    assert found["HAN", "as_rgb"] == 34.16
    assert found["HAN (self_ensemble)", "as_rgb"] is None  # no source has a published score for it
    assert found["EDSR (self_ensemble)", "as_rgb"] == 34.02
    assert found["Bicubic", "as_rgb"] is None
    assert found["Bicubic", "direct"] == 30.24


def test_costs(results: list[SetResult], checked: board.Board) -> None:
    """The expected number of multiply-adds of EDSR, with one block of 8 features, is computed per LR pixel."""
    costs = {result.label: result.cost for result in results}
    madds = 9 * (3 * 8 + 8 * 8 * 3 + 8 * 32 + 4 * 8 * 3)
    per_output = madds / 4
    assert costs["EDSR"].madds_per_mp == pytest.approx(per_output * 1e6)
    assert costs["EDSR (self_ensemble)"].madds_per_mp == pytest.approx(8 * per_output * 1e6)
    net = next(one for one, _ in checked.runs if one.name == "EDSR").net
    assert costs["EDSR"].parameters == sum(p.numel() for p in net.parameters())  # type: ignore[union-attr]
    assert (costs["Bicubic"].parameters, costs["Bicubic"].madds_per_mp) == (0, 0)
    assert costs["EDSR"].seconds > 0
    relative = {result.label: result.relative_time for result in results}
    assert relative["EDSR"] == 1
    for label, one in costs.items():
        assert relative[label] == one.seconds / costs["EDSR"].seconds


def test_time_is_the_median_of_each_variant(checked: board.Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake clock advances by 1 s for variant full and by 8 s for self_ensemble. The median ignores one slow run."""
    edsr = next(one for one, _ in checked.runs if one.name == "EDSR")
    clock, images = 0.0, 0

    def upscale(self: contestants.Contestant, lq: np.ndarray, protocol: Protocol, variant: str) -> np.ndarray:
        nonlocal clock, images
        images += 1
        clock += 100 if images == 5 else 8 if variant == "self_ensemble" else 1
        return lq

    monkeypatch.setattr(contestants.Contestant, "upscale", upscale)
    monkeypatch.setattr("time.perf_counter", lambda: clock)
    measured = cost.measure([(edsr, "full"), (edsr, "self_ensemble")], checked.protocol, 16, 3)
    assert (measured["EDSR", "full"].seconds, measured["EDSR", "self_ensemble"].seconds) == (1, 8)


def test_memory_of_a_large_image_is_measured(checked: board.Board) -> None:
    """At its peak EDSR has two float32 maps in memory: 32 channels before the pixel shuffle and 8 channels after it."""
    edsr = next(one for one, _ in checked.runs if one.name == "EDSR")
    small, large = (cost.measure([(edsr, variants.FULL)], checked.protocol, size, 1) for size in (16, 512))
    peak = large["EDSR", "full"].peak_mb
    if math.isnan(peak):
        pytest.skip("this system does not report the peak memory of a process")
    least = 2 * 32 * 512 * 512 * 4 / 1e6
    assert least < peak < 6 * least
    assert small["EDSR", "full"].peak_mb < 0.2 * peak


@pytest.mark.parametrize("variant", ["tiles-8-2", "chop+self_ensemble", "tiles"])
def test_variants_report_their_difference(variant: str, board_options: dict[str, Any], tmp_path: Path) -> None:
    """The LR images have 16 to 23 pixels per side: tiles of 8 pixels change the output, tiles of 96 do not."""
    del board_options["models"]["EDSR"]
    board_options |= {"variants": ["full", variant], "baseline": "HAN"}
    checked = board.load(board_options)
    net = checked.runs[-1][0].net
    assert net is not None
    with torch.no_grad():
        for attention in (net.lam.alpha, net.csam.beta):  # 0 before training: the attention would not be global
            attention.fill_(5.0)
    cache = ScoreCache(tmp_path / "cache")
    full, other = run.run(checked, cache)[-2:]
    assert full.from_full is None
    assert other.from_full is not None
    pairs = [(cache.load_picture(full.pictures[n]), cache.load_picture(other.pictures[n])) for n in full.pictures]
    largest = max(int(abs(a.astype(int) - b).max()) for a, b in pairs)
    assert other.from_full.largest == largest
    assert (largest == 0) == (variant == "tiles")
    assert other.from_full.psnr == pytest.approx(other.mean.psnr - full.mean.psnr)
    text = rows.markdown("small", [full, other], "HAN")
    assert f"HAN ({variant}) compared with the variant full: {other.from_full}" in text


@pytest.mark.parametrize("scale", [2, 4])
def test_variants_equal_the_authors(scale: int, shared_data: Path) -> None:
    """The leaderboard's SR images equal those of the authors' code, from uint8 input to uint8 output."""
    folder = shared_data / "parity"
    known = np.load(folder / f"official_han_x{scale}.npz")
    options = {"checkpoint": str(folder / f"official_han_x{scale}.pt")}
    han = contestants.build("HAN", options, scale, torch.device("cpu"))
    for variant in ("full", "chop", "self_ensemble"):
        ours = han.upscale(known["lq"], Protocol("BI", scale), variant).astype(np.float64)
        theirs = known[variant].clip(0, 255).transpose(1, 2, 0)
        assert np.abs(ours - theirs).max() < 0.5 + 1e-3, variant


def test_results_csv_has_every_condition(results: list[SetResult]) -> None:
    table = list(csv.DictReader(io.StringIO(rows.results_csv(results))))
    assert len(table) == len(results)
    han = table[2]
    for column in ("psnr_db", "ssim", "protocol", "weights_sha256", "command", "device", "date", "parameters",
                   "published_source", "interval_low_db", "sign_test_p", "relative_time"):  # fmt: skip
        assert han[column], column
    assert len(han["weights_sha256"]) == 64
    assert float(han["minus_published_db"]) == pytest.approx(float(han["psnr_db"]) - 34.16, abs=1e-4)
    assert None not in han


def test_per_image_csv(results: list[SetResult]) -> None:
    table = list(csv.DictReader(io.StringIO(rows.per_image_csv(results))))
    assert len(table) == sum(len(result.scores) for result in results)
    assert {row["protocol"] for row in table} == {result.protocol.name for result in results}
    mean = np.mean([float(r["psnr_db"]) for r in table if (r["model"], r["variant"]) == ("HAN", "full")])
    assert mean == pytest.approx(results[2].mean.psnr, abs=1e-5)


def test_protocols_never_share_a_table(results: list[SetResult]) -> None:
    text = rows.markdown("small", results, "EDSR")
    parts = text.split("## Protocol: ")[1:]
    assert len(parts) == 2
    assert parts[0].startswith(results[0].protocol.name)
    assert parts[1].startswith(results[1].protocol.name)
    direct, as_rgb = results[1].mean.psnr, results[0].mean.psnr
    assert f"| {direct:.3f} |" in parts[1]
    assert f"| {as_rgb:.3f} |" in parts[0]
    assert f"| {as_rgb:.3f} |" not in parts[1]
    assert "HAN" not in parts[1].split("## Conditions")[0]
    for line in text.splitlines():
        assert "nan" not in line.split("|"), line


def test_a_network_that_gives_nan_is_reported(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is not averaged, and a note below the table lists it."""
    checked = board.load(board_options | {"variants": ["full"]})
    net = next(one.net for one, _ in checked.runs if one.name == "EDSR")
    assert net is not None
    real = net.forward

    def broken(lq: torch.Tensor) -> torch.Tensor:
        return real(lq) * (math.nan if lq.shape[-1] in (23, 16) else 1)

    monkeypatch.setattr(net, "forward", broken)
    edsr = run.run(checked, ScoreCache(tmp_path / "cache"))[-1]
    assert [name for name, score in edsr.scores.items() if math.isnan(score.psnr)] == ["b"]
    assert edsr.mean.images == 2
    assert math.isfinite(edsr.mean.psnr)
    text = rows.markdown("small", [edsr], "EDSR")
    assert "EDSR: b: -, not averaged, because the output of EDSR (variant full) has nan or inf" in text
    assert "(2 of 3 images)" in text


def test_inf_is_named_and_not_averaged(results: list[SetResult]) -> None:
    perfect = score.Score(math.inf, 1.0, results[4].protocol)
    changed = results[4].scores | {"a": perfect}
    edsr = replace(results[4], scores=changed)
    text = rows.markdown("small", [edsr], "EDSR")
    assert "EDSR: a: inf dB / 1.0000" in text
    row = next(csv.DictReader(io.StringIO(rows.results_csv([edsr]))))
    assert row["images"] == "2"
    assert math.isfinite(float(row["psnr_db"]))


def test_a_release_is_scored_as_on_the_board(
    results: list[SetResult], checked: board.Board, board_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # as on the leaderboard
    han = board_options["models"]["HAN"]
    kept: list[tuple[str, str]] = []
    scores = run.measure_sets("HAN", han, checked.sets, lambda dataset, image, sr: kept.append((dataset, image)))
    assert scores == {"Set14": results[2].scores}
    assert kept == [("Set14", image) for image in "abc"]


def test_old_cache_files_are_read(tmp_path: Path) -> None:
    """The cache format must not change, so that scores of older versions can still be read."""
    protocol = Protocol("BI", 4)
    cache = ScoreCache(tmp_path)
    key = cache.key("identity", "full", protocol, "digest")
    assert key == "e6e53673bfb209dfc562677d12886580c9918649f033bf2a2986d49dcbbc86b5"
    (tmp_path / f"{key}.json").write_text('{"psnr": 30.5, "ssim": 0.9, "conditions": {"commit": "x"}}')
    assert cache.load(key, protocol) is None  # no image
    cache.picture(key).write_bytes(encode_png(np.zeros((4, 4), np.uint8)))
    stored = cache.load(key, protocol)
    assert stored is not None
    assert (stored.score, stored.conditions) == (score.Score(30.5, 0.9, protocol), {"commit": "x"})
