"""Tests of published scores (source and protocol are known) and of the comparison with the baseline."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from han_arch.evaluation import comparison
from han_arch.evaluation.protocol import Protocol

X4 = Protocol("BI", 4)


def table(repository: Path) -> list[dict[str, str]]:
    with (repository / "han_arch" / "evaluation" / comparison.PUBLISHED_FILE).open() as file:
        return list(csv.DictReader(file))


def test_every_row_has_a_source(repository: Path) -> None:
    rows = table(repository)
    assert len(rows) > 150
    for row in rows:
        assert row["status"] in ("found", "remeasured"), row
        assert len(row["read_in"]) > 5, row


def test_rows_are_those_of_the_collected_table(repository: Path, shared_data: Path) -> None:
    with (shared_data / "published_results.csv").open() as file:
        everything = list(csv.DictReader(file))
    allowed = [
        row for row in everything if row["status"] != "unchecked" and row["protocol"] in comparison.PUBLISHED_CROPS
    ]
    assert len(allowed) < len(everything)
    assert table(repository) == allowed


def test_no_cell_is_listed_twice() -> None:
    cells = [(row.method, row.dataset, row.score.protocol) for row in comparison.load_published()]
    assert len(cells) == len(set(cells))


def test_a_row_without_source_is_rejected() -> None:
    row = {
        "degradation": "BI", "scale": "2", "method": "HAN+", "dataset": "Set5",
        "psnr_y_db": "38.33", "ssim_y": "0.9617",
        "protocol": "Y border=scale mod-scale", "read_in": "", "status": "unchecked",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"no source.*HAN\+"):
        comparison.parse_published(row)


def test_numbers_are_found_by_protocol() -> None:
    paper = comparison.find_published("HAN", "Set5", X4)
    assert paper is not None
    assert (paper.score.psnr, paper.score.ssim, paper.status) == (32.64, 0.9002, "found")
    again = comparison.find_published("HAN", "Set5", Protocol("BI", 4, crop_gt="GTmod12", lr_border="replicate"))
    assert again is not None
    assert (again.score.psnr, again.status) == (32.567, "remeasured")
    assert math.isnan(again.score.ssim)
    for other in (Protocol("BI", 4, channel="RGB"), Protocol("BI", 4, crop_border=0)):
        assert comparison.find_published("HAN", "Set5", other) is None
    assert comparison.find_published("HAN+", "Set5", X4) is None


def test_the_bicubic_row_of_set14_compares_grey_values() -> None:
    assert comparison.find_published("Bicubic", "Set14", X4) is None
    direct = comparison.find_published("Bicubic", "Set14", Protocol("BI", 4, grey="direct"))
    assert direct is not None
    assert direct.score.psnr == 26.00
    rows = comparison.published_on(["Set14"], X4)
    assert {row.method for row in rows} >= {"HAN", "RCAN", "EDSR"}
    assert {row.dataset for row in rows} == {"Set14"}


def test_sign_test_by_hand() -> None:
    """Nine wins of ten images: p = 2 * (10 + 1) / 2^10."""
    result = comparison.compare([1.0] * 9 + [-1.0], [0.0] * 10)
    assert (result.wins, result.losses) == (9, 1)
    assert result.p_value == pytest.approx(22 / 1024)
    assert result.difference == pytest.approx(0.8)


def test_equal_images_are_neither_won_nor_lost() -> None:
    result = comparison.compare([3.0, 4.0], [3.0, 4.0])
    assert (result.wins, result.losses, result.p_value) == (0, 0, 1.0)
    assert result.verdict == "not settled"


def test_five_images_settle_nothing_and_a_hundred_do() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, 100)
    few = comparison.compare(list(0.02 + abs(noise[:5])), [0.0] * 5)
    assert few.low > 0
    assert few.verdict == "not settled"
    many = comparison.compare(list(30.2 + noise), [30.0] * 100)
    assert many.verdict == "ahead"
    assert comparison.compare([30.0] * 100, list(30.2 + noise)).verdict == "behind"


def test_interval_has_about_its_nominal_coverage() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        result = comparison.compare(list(generator.normal(0.1, 0.3, 40)), [0.0] * 40)
        hits += result.low <= 0.1 <= result.high
    assert 51 <= hits <= 60


def test_images_with_inf_or_nan_are_skipped() -> None:
    result = comparison.compare([math.inf, 31.0, math.nan, 33.0], [math.inf, 30.0, 30.0, 30.0])
    assert (result.images, result.difference) == (2, 2.0)
    alone = comparison.compare([1.0], [0.0])
    assert math.isnan(alone.low)
    assert alone.verdict == "not settled"


def test_same_numbers_give_the_same_interval() -> None:
    values = list(np.random.default_rng(2).normal(size=20))
    assert comparison.compare(values, [0.0] * 20) == comparison.compare(values, [0.0] * 20)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        comparison.compare([1.0, 2.0], [1.0])
