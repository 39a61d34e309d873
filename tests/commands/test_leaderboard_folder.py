"""The folder of a leaderboard: nothing of the user is replaced, one process at a time, any names of images."""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from han_arch import cli, locks
from han_arch.bench import report
from han_arch.errors import UserError
from han_arch.evaluation import outputs
from han_arch.evaluation.contestants import Contestant


def write_board(folder: Path, **more: Any) -> None:
    """Write an option file with Bicubic as the only contestant, and one image."""
    (folder / "HR").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "HR" / "a.png"), image)
    options = {"name": "b", "scale": 4, "num_gpu": 0, "datasets": {"Set5": {"dataroot_gt": "HR"}},
               "models": {"Bicubic": {"type": "Bicubic"}}, "cost": {"lr_size": 16, "repeat": 1}}  # fmt: skip
    (folder / "board.yml").write_text(yaml.safe_dump(options | more), "utf-8")


@pytest.fixture
def folder(tmp_path: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_board(tmp_path)
    return tmp_path / "results" / "b"


def leaderboard(*words: str) -> int:
    return cli.main(["leaderboard", "-opt", "board.yml", *words])


@pytest.mark.parametrize("name", ["README.md", "per_image.csv", "results.csv", "index.html"])
def test_a_file_of_the_user_is_never_replaced(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"mine")

    def fail(*_: Any) -> None:
        raise AssertionError("measured before the refusal")

    monkeypatch.setattr(Contestant, "upscale", fail)
    assert leaderboard() == 2
    error = capsys.readouterr().err
    for part in (str(Path("results", "b", name)), "another folder"):
        assert part in error
    assert (folder / name).read_bytes() == b"mine"
    assert {path.name for path in folder.iterdir()} <= {name, ".cache.lock"}


def test_own_files_are_replaced_unless_edited(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leaderboard() == 0
    assert leaderboard("--force_yml", "cost:lr_size=24") == 0
    assert "24x24" in (folder / "README.md").read_text()
    with (folder / "README.md").open("a") as file:
        file.write("my notes\n")
    before = (folder / "README.md").read_bytes()
    assert leaderboard() == 2
    assert "README.md" in capsys.readouterr().err
    assert (folder / "README.md").read_bytes() == before


def test_links_and_files_of_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "a").symlink_to(target)
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError) as caught:
        outputs.write(tmp_path, dict.fromkeys("abcd", "new"))
    assert len(str(caught.value).splitlines()) == 4
    assert target.read_text() == "mine"
    assert not (tmp_path / "d").exists()

    real, written = outputs.files.write, []

    def stop(path: Path, content: bytes | str) -> None:
        if path.name == "f":
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, content)

    outputs.write(tmp_path, {"e": "1", "f": "1"})
    monkeypatch.setattr(outputs.files, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        outputs.write(tmp_path, {"e": "2", "f": "2"})
    monkeypatch.setattr(outputs.files, "write", real)
    outputs.write(tmp_path, {"e": "3", "f": "3"})
    assert [(tmp_path / name).read_text() for name in "ef"] == ["3", "3"]
    (tmp_path / outputs.RECORD).write_text("{")  # without its record, no file counts as ours
    with pytest.raises(UserError):
        outputs.write(tmp_path, {"e": "4"})


def test_files_of_earlier_versions_stay_under_another_name(
    folder: Path, repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions wrote the same files, but no record of them."""
    pytest.importorskip("plotly", reason="the page needs plotly")
    assert leaderboard() == 0
    (folder / outputs.RECORD).unlink()
    names = {"results.csv", "per_image.csv", "README.md", "index.html"}
    with (folder / "README.md").open("a") as file:
        file.write("my notes\n")
    before = {name: (folder / name).read_bytes() for name in names}
    assert leaderboard("--force_yml", "cost:lr_size=24") == 0
    assert "24x24" in (folder / "README.md").read_text()
    kept = {path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in names}
    assert {before[name] for name in names - {"per_image.csv"}} <= kept  # per_image.csv did not change
    assert re.search(r"earlier version.*README\.md.*kept as README-", caplog.text)
    count = len(list(folder.iterdir()))
    assert leaderboard() == 0
    assert len(list(folder.iterdir())) == count
    for name in ("runs.csv", "images.csv", "README.md"):
        text = (repository / "docs" / "model_zoo" / "ablation" / name).read_bytes()
        (tmp_path / name).write_bytes(text)
    outputs.check(tmp_path, ("runs.csv", "images.csv", "README.md"))
    (tmp_path / "README.md").write_text("# b\n\nMy notes on ## Protocol: x\n")
    with pytest.raises(UserError, match=r"README\.md"):
        outputs.check(tmp_path, ("runs.csv", "images.csv", "README.md"))


def test_bench_replaces_pages_of_earlier_versions(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure", reason="the chart needs matplotlib").Figure()
    figure.savefig(tmp_path / "bench.png")
    (tmp_path / "bench.md").write_text("Xeon, 2 threads, AVX512; PyTorch 2.4.0.\n\n| network |\n")
    (tmp_path / "bench.csv").write_text("case,network,unit,repeat,value\n")
    outputs.write(tmp_path, dict.fromkeys(report.FILES, "new"))
    assert len(list(tmp_path.iterdir())) == 7
    assert all((tmp_path / name).read_text() == "new" for name in report.FILES)


def test_bench_keeps_a_page_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bench.md").write_text("mine")
    assert cli.main(["bench", "--out", str(tmp_path), "--cases", "inference"]) == 2
    assert "bench.md" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"bench.md"}
    assert report.FILES[0] == "bench.md"


@pytest.mark.parametrize("name", ["..", "../b", "/tmp/b", "a" * 300, "nul", "a\nb", "a.", "a\0b", "a|b"])
def test_names_that_leave_the_folder_or_that_a_system_refuses(
    name: str, tmp_path: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_board(tmp_path, name=name)
    assert leaderboard() == 2
    assert "the option name must be" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"HR", "board.yml"}


def test_a_second_leaderboard_of_the_same_folder_stops(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locks.held(folder / "cache", "the leaderboard b"):
        assert leaderboard() == 2
    error = capsys.readouterr().err
    for part in ("leaderboard b", f"process {os.getpid()}"):
        assert part in error
    assert not (folder / "README.md").exists()
    assert leaderboard() == 0


def test_a_failing_contestant_gives_exit_status_1(
    tmp_path: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_board(tmp_path, models={"Bicubic": {"type": "Bicubic"}, "Other": {"type": "Bicubic"}})
    real = Contestant.upscale

    def broken(self: Contestant, *args: Any) -> np.ndarray:
        if self.name == "Other":
            raise RuntimeError("CUDA error\nmore")
        return real(self, *args)

    monkeypatch.setattr(Contestant, "upscale", broken)
    assert leaderboard() == 1
    error = [line for line in capsys.readouterr().err.splitlines() if "Other" in line and "measure:" not in line]
    assert len(error) == 1
    assert "CUDA error" in error[0]
    assert "| Bicubic | " in (tmp_path / "results" / "b" / "README.md").read_text()


HOSTILE = "=x|`y`<script>alert(1)<%2Fscript>](h)&\n*\udcf6"


@pytest.mark.skipif(os.name == "nt", reason="Windows does not allow this file name")
def test_hostile_names_in_every_file_of_the_board(
    tmp_path: Path, basicsr: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly", reason="the page needs plotly")
    monkeypatch.chdir(tmp_path)
    text = HOSTILE[:-1]  # YAML has no lone surrogate
    write_board(tmp_path, datasets={text: {"dataroot_gt": "HR"}}, gallery={"count": 1, "size": 16},
                models={f"{text}1": {"type": "Bicubic"}, f"{text}2": {"type": "Bicubic"}})  # fmt: skip
    os.rename(tmp_path / "HR" / "a.png", tmp_path / "HR" / f"{HOSTILE}.png")
    assert leaderboard() == 0
    folder = tmp_path / "results" / "b"
    readme = (folder / "README.md").read_text("utf-8")
    assert "<script" not in readme
    assert not re.search(r"(?<!\\)\]\(", readme)
    for name in ("results.csv", "per_image.csv"):
        with (folder / name).open(newline="", encoding="utf-8") as file:
            table = list(csv.reader(file))
        assert len(table) == 3
        assert all(len(row) == len(table[0]) for row in table)
        assert not any(cell.startswith(("=", "@")) for row in table for cell in row)
    page = (folder / "index.html").read_text("utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert data["crops"][0]["image"] == HOSTILE
    assert "<script>alert" not in page
