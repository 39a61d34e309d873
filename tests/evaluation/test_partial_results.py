"""A contestant or an image that fails: the others are measured, and the tables say what each mean contains."""

import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from han_arch.errors import UserError
from han_arch.evaluation import board, contestants, page, rows, run, score
from han_arch.evaluation.comparison import compare
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score import Score, ScoreCache


def network(checked: board.Board, name: str) -> torch.nn.Module:
    net = next(one.net for one, _ in checked.runs if one.name == name)
    assert net is not None
    return net


def page_data(results: list[SetResult]) -> dict[str, Any]:
    """Return the data of the page, read as strict JSON."""
    pytest.importorskip("plotly", reason="the page needs plotly")

    def refuse(word: str) -> None:
        pytest.fail(word)

    text = re.search(r'id="data">(.*?)</script>', page.page("x", "EDSR", results, []), re.S)
    assert text is not None
    return json.loads(text[1], parse_constant=refuse)


def assert_no_nan(results: list[SetResult]) -> str:
    text = rows.markdown("small", results, "EDSR")
    assert not re.search(r"[+\-\[ ]nan|\binf\]", text.replace("has nan", "")), text
    assert "+nan" not in rows.results_csv(results)
    page_data(results)
    return text


@pytest.mark.parametrize("always", [False, True])
def test_a_network_that_raises_fails_alone(
    always: bool, board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = board.load(board_options | {"variants": ["full"]})
    real, calls = network(checked, "HAN").forward, []

    def broken(lq: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(lq.shape))
        if always or lq.shape[-1] == 23:
            raise KeyError("window\nsize")
        return real(lq)

    monkeypatch.setattr(network(checked, "HAN"), "forward", broken)
    cache = ScoreCache(tmp_path / "cache")
    results = run.run(checked, cache)
    han, edsr = results[2], results[3]
    assert list(han.failures) == (["a", "b", "c"] if always else ["b"])
    assert edsr.mean.images == 3
    assert not edsr.failures
    (line,) = run.list_failures(results)
    for part in ("HAN: ", "3 of 3" if always else "1 of 3", "KeyError", "window"):
        assert part in line
    assert "\n" not in line
    text = assert_no_nan(results)
    row = list(csv.DictReader(io.StringIO(rows.results_csv(results))))[2]
    if always:
        assert math.isnan(han.cost.seconds)
        assert "HAN: not compared with EDSR" in text
        assert row["images"] == "0"
    else:
        assert "(2 of 3 images)" in text
        common = f"HAN {han.mean.psnr:.2f} dB"
        assert re.search(rf"over different images\. Means over the 2 images of all models: .*{common}", text)
    assert "KeyError" in row["not_averaged"]
    # The failed image is not in the cache, so the next run tries it again.
    calls.clear()
    run.run(checked, cache)
    assert (1, 3, 20, 23) in calls


def test_a_baseline_that_fails_compares_nobody(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = board.load(board_options | {"variants": ["full"]})

    def broken(lq: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such layer")

    monkeypatch.setattr(network(checked, "EDSR"), "forward", broken)
    results = run.run(checked, ScoreCache(tmp_path / "cache"))
    text = assert_no_nan(results)
    assert "HAN: not compared with EDSR" in text
    han = next(one for one in page_data(results)["rows"] if one["label"] == "HAN")
    assert han["minus_baseline_db"] is None
    assert han["relative_time"] is None
    assert han["psnr_db"] > 0


def test_an_output_of_another_size_fails(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = board.load(board_options | {"variants": ["full"]})
    monkeypatch.setattr(network(checked, "HAN"), "forward", lambda lq: lq[:, :1])
    han = run.run(checked, ScoreCache(tmp_path / "cache"))[2]
    assert set(han.failures) == {"a", "b", "c"}
    assert "shape" in han.failures["a"]


def test_an_image_that_changes_is_not_measured(board_options: dict[str, Any], hr_folder: Path, tmp_path: Path) -> None:
    """Its score would be stored under the hash of the old pixels."""
    checked = board.load(board_options | {"variants": ["full"]})
    cv2.imwrite(str(hr_folder / "a.png"), np.zeros((33, 40, 3), np.uint8))
    (hr_folder / "b.png").unlink()
    results = run.run(checked, ScoreCache(tmp_path / "cache"))
    assert [list(one.failures) for one in results] == [["a", "b"]] * 4
    assert "has changed" in results[0].failures["a"]
    assert all(one.mean.images == 1 for one in results)
    assert len(list((tmp_path / "cache").glob("*.json"))) == 4


def test_variants_are_compared_on_images_of_both(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = board.load(board_options)
    real = network(checked, "HAN").forward

    def broken(lq: torch.Tensor) -> torch.Tensor:  # only self_ensemble transposes
        if lq.shape[-2:] == (23, 20):
            raise RuntimeError
        return real(lq)

    monkeypatch.setattr(network(checked, "HAN"), "forward", broken)
    full, other = run.run(checked, ScoreCache(tmp_path / "cache"))[2:4]
    assert other.failures == {"b": "RuntimeError: no message"}
    gains = [other.scores[name].psnr - full.scores[name].psnr for name in "ac"]
    assert other.from_full is not None
    assert other.from_full.psnr == pytest.approx(np.mean(gains))


def test_one_image_has_no_interval(measured: tuple[board.Board, list[SetResult]]) -> None:
    results = measured[1]
    han = replace(results[2], scores={"a": results[2].scores["a"]}, comparison=compare([30.0], [29.0]))
    text = assert_no_nan([han])
    assert "+1.000 [-]" in text
    assert "no interval" in text


def test_images_that_equal_hr_are_marked(measured: tuple[board.Board, list[SetResult]]) -> None:
    results = measured[1]
    perfect = Score(math.inf, 1.0, results[2].protocol)
    han = replace(results[2], scores=results[2].scores | {"a": perfect})
    psnr = ([one.psnr for one in which.scores.values()] for which in (han, results[4]))
    han = replace(han, comparison=compare(*psnr))
    text = assert_no_nan([han, results[4]])
    assert "a: inf dB / 1.0000, not averaged, because SR equals HR" in text
    assert text.count("(2 of 3 images)") >= 4  # both tables, PSNR and SSIM, and the comparison
    assert han.minus_published_db is None
    assert "not compared with the published score" in text
    row = page_data([han])["rows"][0]
    assert (row["share"], row["compared"]) == ("2 of 3 images", "2 of 3 images")
    all_equal = replace(han, scores=dict.fromkeys("abc", perfect), comparison=compare([math.inf] * 3, [30.0] * 3))
    assert "EDSR" in assert_no_nan([all_equal])


def test_optional_metrics_say_how_many_images(measured: tuple[board.Board, list[SetResult]]) -> None:
    some = replace(measured[1][2], perceptual={"niqe": 3.25}, perceptual_images={"niqe": 2})
    none = replace(measured[1][2], perceptual={"niqe": math.nan}, perceptual_images={"niqe": 0})
    assert "niqe 3.2500 (2 of 3 images)" in assert_no_nan([some])
    assert "niqe - (0 of 3 images)" in assert_no_nan([none])
    assert page_data([some])["rows"][0]["perceptual_share"] == {"niqe": "2 of 3 images"}


def test_weights_with_nan_are_said(board_options: dict[str, Any]) -> None:
    for name in ("HAN", "EDSR"):
        path = board_options["models"][name]["checkpoint"]
        weights = torch.load(path, weights_only=True)
        weights["params"][next(reversed(weights["params"]))][:] = math.nan
        torch.save(weights, path)
    with pytest.raises(UserError) as caught:
        board.load(board_options)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["HAN", "EDSR"]
    assert all("nan" in line for line in lines)


def test_weights_that_change_while_they_are_read(
    board_options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edsr, real = Path(board_options["models"]["EDSR"]["checkpoint"]), contestants.hash_file

    def swap(file: Path) -> str:
        try:
            return real(file)
        finally:
            if file == edsr:
                shutil.copy(board_options["models"]["HAN"]["checkpoint"], edsr)

    monkeypatch.setattr(contestants, "hash_file", swap)
    with pytest.raises(UserError, match=r"EDSR: .*EDSR\.pth changed while it was read"):
        board.load(board_options)


def test_equal_names_are_refused(board_options: dict[str, Any]) -> None:
    models = board_options["models"]
    models["HAN (self_ensemble)"] = models["EDSR"] | {"variants": ["full"]}
    board_options["datasets"] = {1: board_options["datasets"]["Set14"], "1": board_options["datasets"]["Set14"]}
    with pytest.raises(UserError) as caught:
        board.load(board_options)
    for part in ("HAN (self_ensemble)", "two test sets have the name '1'"):
        assert part in str(caught.value)


def test_damaged_and_foreign_files_of_the_cache_are_made_again(board_options: dict[str, Any], tmp_path: Path) -> None:
    checked = board.load(board_options | {"variants": ["full"]})
    cache = ScoreCache(tmp_path / "cache")
    wanted = [one.scores for one in run.run(checked, cache)]
    pictures = sorted(cache.folder.glob("*.png"))
    contents = [path.read_bytes() for path in pictures]
    mine = tmp_path / "mine.png"
    shutil.copy(pictures[0], mine)
    pictures[0].write_bytes(contents[0][:-20])  # cut
    shutil.copy(pictures[2], pictures[1])  # a picture of other weights or of another image
    pictures[3].unlink()
    pictures[3].symlink_to(mine)
    for suffix in (".png", ".json"):  # a complete measurement of another key
        shutil.copy(pictures[5].with_suffix(suffix), pictures[4].with_suffix(suffix))
    pictures[6].with_suffix(".json").write_text("[" * 10_000)
    pictures[7].with_suffix(".json").write_text('{"psnr": 1, "ssim": 1, "conditions": 3}')
    assert [one.scores for one in run.run(checked, cache)] == wanted
    assert [path.read_bytes() for path in pictures] == contents
    assert not pictures[3].is_symlink()
    assert mine.read_bytes() == contents[0]


def test_nan_and_inf_are_strict_json_in_the_cache_and_are_read_back(tmp_path: Path) -> None:
    protocol = board.Protocol("BI", 4)
    cache, sr = ScoreCache(tmp_path), np.zeros((4, 4, 3), np.uint8)
    one = score.MeasuredImage(Score(math.inf, math.nan, protocol), {"commit": "x"})
    cache.store("k", one, sr)
    stored = json.loads((tmp_path / "k.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert stored["psnr"] == "inf"
    again = cache.load("k", protocol)
    assert again is not None
    assert again.score.psnr == math.inf
    assert math.isnan(again.score.ssim)
    cache.store_value("k", "niqe", 1.2345)
    value = tmp_path / "k.niqe.txt"
    assert cache.load_value("k", "niqe") == 1.2345
    value.write_text(value.read_text()[:3])  # a cut number is another number
    assert cache.load_value("k", "niqe") is None
