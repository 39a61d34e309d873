"""The published numbers that are shipped: sourced, of a known protocol, and none that nobody has read."""

import csv
import math
from pathlib import Path

import pytest

from han_arch.evaluation import published
from han_arch.evaluation.protocol import Protocol

X4 = Protocol("BI", 4)


def table(repository: Path) -> list[dict[str, str]]:
    with (repository / "han_arch" / "evaluation" / published.FILE).open() as file:
        return list(csv.DictReader(file))


def test_only_rows_that_were_read_somewhere(repository: Path) -> None:
    rows = table(repository)
    assert len(rows) > 150
    for row in rows:
        assert row["status"] in ("found", "remeasured"), row
        assert len(row["read_in"]) > 5, row


def test_rows_are_those_of_the_collected_table(repository: Path, shared_data: Path) -> None:
    with (shared_data / "published_results.csv").open() as file:
        everything = list(csv.DictReader(file))
    allowed = [row for row in everything if row["status"] != "unchecked" and row["protocol"] in published.CROPS]
    assert len(allowed) < len(everything)
    assert table(repository) == allowed


def test_nothing_stands_twice() -> None:
    cells = [(row.method, row.dataset, row.score.protocol) for row in published.load()]
    assert len(cells) == len(set(cells))


def test_an_unread_row_is_refused() -> None:
    row = {
        "degradation": "BI", "scale": "2", "method": "HAN+", "dataset": "Set5",
        "psnr_y_db": "38.33", "ssim_y": "0.9617",
        "protocol": "Y border=scale mod-scale", "read_in": "", "status": "unchecked",
    }  # fmt: skip
    with pytest.raises(ValueError, match="must not be printed"):
        published._parse(row)


def test_numbers_are_found_by_protocol() -> None:
    paper = published.find("HAN", "Set5", X4)
    assert paper is not None
    assert (paper.score.psnr, paper.score.ssim, paper.status) == (32.64, 0.9002, "found")
    again = published.find("HAN", "Set5", Protocol("BI", 4, crop_gt="GTmod12", lr_border="replicate"))
    assert again is not None
    assert (again.score.psnr, again.status) == (32.567, "remeasured")
    assert math.isnan(again.score.ssim)
    for other in (Protocol("BI", 4, channel="RGB"), Protocol("BI", 4, crop_border=0)):
        assert published.find("HAN", "Set5", other) is None
    assert published.find("HAN+", "Set5", X4) is None


def test_set14s_bicubic_row_is_by_grey_values() -> None:
    assert published.find("Bicubic", "Set14", X4) is None
    direct = published.find("Bicubic", "Set14", Protocol("BI", 4, grey="direct"))
    assert direct is not None
    assert direct.score.psnr == 26.00
    rows = published.rows_for(X4, ["Set14"])
    assert {row.method for row in rows} >= {"Bicubic", "HAN", "RCAN", "EDSR"}
    assert {row.dataset for row in rows} == {"Set14"}
