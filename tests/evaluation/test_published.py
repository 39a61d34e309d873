"""The published scores in the package: each has a source and a known protocol."""

import csv
import math
from pathlib import Path

import pytest

from han_arch.evaluation import score
from han_arch.evaluation.protocol import Protocol

X4 = Protocol("BI", 4)


def table(repository: Path) -> list[dict[str, str]]:
    with (repository / "han_arch" / "evaluation" / score.PUBLISHED_FILE).open() as file:
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
    allowed = [row for row in everything if row["status"] != "unchecked" and row["protocol"] in score.PUBLISHED_CROPS]
    assert len(allowed) < len(everything)
    assert table(repository) == allowed


def test_no_cell_is_listed_twice() -> None:
    cells = [(row.method, row.dataset, row.score.protocol) for row in score.load_published()]
    assert len(cells) == len(set(cells))


def test_a_row_without_source_is_rejected() -> None:
    row = {
        "degradation": "BI", "scale": "2", "method": "HAN+", "dataset": "Set5",
        "psnr_y_db": "38.33", "ssim_y": "0.9617",
        "protocol": "Y border=scale mod-scale", "read_in": "", "status": "unchecked",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"without source.*HAN\+"):
        score.parse_published(row)


def test_numbers_are_found_by_protocol() -> None:
    paper = score.find_published("HAN", "Set5", X4)
    assert paper is not None
    assert (paper.score.psnr, paper.score.ssim, paper.status) == (32.64, 0.9002, "found")
    again = score.find_published("HAN", "Set5", Protocol("BI", 4, crop_gt="GTmod12", lr_border="replicate"))
    assert again is not None
    assert (again.score.psnr, again.status) == (32.567, "remeasured")
    assert math.isnan(again.score.ssim)
    for other in (Protocol("BI", 4, channel="RGB"), Protocol("BI", 4, crop_border=0)):
        assert score.find_published("HAN", "Set5", other) is None
    assert score.find_published("HAN+", "Set5", X4) is None


def test_the_bicubic_row_of_set14_compares_grey_values() -> None:
    assert score.find_published("Bicubic", "Set14", X4) is None
    direct = score.find_published("Bicubic", "Set14", Protocol("BI", 4, grey="direct"))
    assert direct is not None
    assert direct.score.psnr == 26.00
    rows = score.published_on(["Set14"], X4)
    assert {row.method for row in rows} >= {"HAN", "RCAN", "EDSR"}
    assert {row.dataset for row in rows} == {"Set14"}
