"""Records of a training run: log lines, progress bar, TensorBoard, CSV files."""

import io
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import run

from han_arch.training.records import CsvLog, Progress, draw_curves, read_rows, summarise

pytestmark = pytest.mark.usefixtures("basicsr")

LINE = re.compile(
    r"INFO: \[run\]\[epoch: +(\d+), iter: +([\d,]+), lr:\(([\d.e+-]+),\)\] "
    r"\[eta: (\d+:\d\d:\d\d), ([\d.e+]+) it/s, ([\d.e+]+) samples/s, data \d+%, memory ([\d,]+) MiB\] "
    r"l_pix: ([\d.e+-]+) grad_norm: ([\d.e+-]+)$"
)


def scalars(folder: Path) -> dict[str, list[Any]]:
    """Return the events that TensorBoard shows, keyed by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    tags = events.Tags()
    return {tag: events.Scalars(tag) for tag in tags["scalars"]} | {tag: events.Images(tag) for tag in tags["images"]}


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_log_and_tensorboard_of_a_run(make_run, resumed: bool) -> None:
    """No step appears twice, also after a resume from an earlier training state."""
    import cv2
    import numpy as np

    folder = make_run("recorded")
    text = (folder / "run.yml").read_text().replace("use_tb_logger: false", "use_tb_logger: true")
    (folder / "run.yml").write_text(text)
    odd = ("--force_yml", "val:metrics:psnr:crop_border=4")
    if resumed:
        code, text = run(folder, *odd, "train:total_iter=7")
        assert code == 0, text
        (folder / "experiments/run/training_states/7.state").unlink()
    code, text = run(folder, "--auto_resume", *odd, "train:total_iter=8")
    assert code == 0, text
    log = max((folder / "experiments/run").glob("train_run_*.log")).read_text()
    assert "WARNING: val:metrics:psnr:crop_border is 4" in log
    assert text.count("crop_border is 4") == 1
    lines = [LINE.search(line) for line in log.splitlines() if "iter:  " in line]
    assert [line and line[2] for line in lines] == [str(i) for i in range(6 if resumed else 1, 9)]
    assert all(float(line[5]) * 2 == pytest.approx(float(line[6]), rel=2e-3) for line in lines if line)
    assert all(100 < int(line[7].replace(",", "")) < 20_000 for line in lines if line)
    assert "\r" not in text  # no progress bar in a file

    shown = scalars(folder / "tb_logger/run")
    steps = {tag: [event.step for event in events] for tag, events in shown.items()}
    for tag in ("losses/l_pix", "grad_norm", "lr", "speed/samples_per_s", "memory_MiB"):
        assert steps[tag] == list(range(1, 9)), tag
    for tag in ("metrics/demo_test/psnr", "metrics/demo_test/ssim"):
        assert steps[tag] == [3, 6, 8], tag
    images = {tag: events for tag, events in shown.items() if "LQ SR GT" in tag}
    assert len(images) == 3
    last = next(iter(images.values()))[-1]
    picture = cv2.imdecode(np.frombuffer(last.encoded_image_string, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (40, 3 * 48, 3)
    name = next(iter(images)).split("/")[1].split(",")[0]
    assert np.array_equal(picture[:, 96:], cv2.imread(str(folder / f"gt/{name}.png")))
    lq = cv2.imread(str(folder / f"lq/{name}.png"))
    assert np.array_equal(picture[:, :48], lq.repeat(2, axis=0).repeat(2, axis=1))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logger():
    """A logger without handlers, for a test that adds its own."""
    logger = logging.getLogger("test_progress")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


def progress_of(logger: logging.Logger, rank: int = 0) -> Progress:
    return Progress({"name": "live", "rank": rank, "train": {"total_iter": 100}}, 10, 4, None, logger)


@pytest.mark.parametrize(("rank", "is_terminal"), [(0, True), (1, True), (0, False)])
def test_live_line_is_the_first_process_on_a_terminal(
    rank: int, is_terminal: bool, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    logger.addHandler(logging.StreamHandler())
    with progress_of(logger, rank) as progress:
        for current_iter in range(11, 14):
            progress.count(current_iter, 0.5, 0.1, {"l_pix": 0.25, "l_percep": 0.5, "grad_norm": 3.0})
        progress.write_line(0, 13, [1e-3], {"l_pix": 0.25, "grad_norm": 3.0})
    text = screen.getvalue()
    assert "2 it/s, 8 samples/s, data 20%" in text
    assert ("\r" in text) == (rank == 0 and is_terminal)
    if rank == 0 and is_terminal:
        assert "13/100" in text
        assert "loss 0.75" in text
        assert any(
            line.startswith("[live][epoch:") for line in re.split(r"[\r\n]+", text)
        )  # on its own line, not behind the bar


def test_resumed_csv_file_drops_later_and_half_written_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    log = CsvLog(path, ["iter", "l_pix"], 0)
    for current_iter in (1, 2, 3):
        log.add({"iter": current_iter, "l_pix": 0.1 * current_iter})
    with path.open("a") as file:
        file.write("4,0.")  # left by a killed process
    before = path.read_bytes()
    CsvLog(path, ["iter", "l_pix"], 2)
    assert [(row["iter"], float(row["l_pix"])) for row in read_rows(path)] == [("1", 0.1), ("2", 0.2)]
    assert before.startswith(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_csv_file_keeps_the_columns_of_the_stopped_run(tmp_path: Path) -> None:
    """A resumed run has a new metric, and lacks an old one."""
    path = tmp_path / "val_set.csv"
    log = CsvLog(path, ["iter", "psnr", "ssim"], 0)
    for current_iter in (5, 10):
        log.add({"iter": current_iter, "psnr": 30 + current_iter, "ssim": 0.9})
    CsvLog(path, ["iter", "psnr", "lpips"], 10).add({"iter": 15, "psnr": float("nan"), "lpips": 0.3})
    assert [row["ssim"] for row in read_rows(path)] == ["0.9", "0.9", ""]
    summary = summarise(tmp_path, {"lpips": {"better": "lower"}})
    for line in ("psnr: highest 40.0000 at iteration 10, last nan at iteration 15", "ssim: highest 0.9000 at",
                 "last 0.9000 at iteration 10", "lpips: lowest 0.3000 at iteration 15"):  # fmt: skip
        assert line in summary
    assert (tmp_path / "curves.png").stat().st_size > 1000
    (tmp_path / "curves.png").unlink()
    (tmp_path / "curves.png").mkdir()
    assert "curves: not drawn (" in summarise(tmp_path, {}), "a finished run does not fail because of its picture"


def test_rates_exclude_validation_and_eta_includes_it(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines: list[str] = []
    handler = logging.StreamHandler(io.StringIO())
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    with progress_of(logger) as progress:
        now[0] += 60  # the first iteration is slow, because it compiles
        progress.count(11, 60, 0, {})
        progress.write_line(0, 11, [1e-3], {})
        for current_iter in range(12, 22):
            now[0] += 0.5
            progress.count(current_iter, 0.5, 0, {})
        now[0] += 5  # a validation
        progress.write_line(0, 21, [1e-3], {})
    assert "eta: 1:29:00" in lines[0]
    assert "2 it/s" in lines[1]
    assert "eta: 0:01:19" in lines[1]  # 79 iterations are left, 1 s each


def test_curves_of_sets_whose_names_look_like_formulas(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the curves need matplotlib")
    (tmp_path / "train.csv").write_text("iter,l_pix\n1,0.5\n2,0.4\n")
    (tmp_path / "val_$_{$ a.csv").write_text("iter,$psnr{$\n1,30\n2,31\n")
    assert draw_curves(tmp_path).stat().st_size > 1000
