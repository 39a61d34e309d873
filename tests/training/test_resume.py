"""A run that was killed and resumed equals one that was not, to the bit."""

import csv
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from han_arch.training import yaml_options
from han_arch.training.shipped_options import find

pytestmark = pytest.mark.usefixtures("basicsr")
TOTAL = 14
SAVE_EVERY = 5


def start(folder: Path, *flags: str, ranks: int = 1) -> subprocess.Popen[str]:
    launch = []
    if ranks > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        flags = (*flags, "--launcher", "pytorch")
    command = [sys.executable, *launch, "-m", "han_arch", "train", "-opt", "run.yml", *flags]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(folder: Path, *flags: str, ranks: int = 1) -> tuple[int, str]:
    process = start(folder, *flags, ranks=ranks)
    text, _ = process.communicate(timeout=120)
    return process.returncode, text


def run_until(folder: Path, iteration: int, sent: signal.Signals, *flags: str) -> tuple[int, str]:
    """Start a run and send it a signal as soon as it has logged an iteration."""
    process = start(folder, *flags)
    text = ""
    for line in process.stdout:
        text += line
        if f"iter:{iteration:8,d}, lr" in line:
            process.send_signal(sent)
            break
    rest, _ = process.communicate(timeout=120)
    return process.returncode, text + rest


@pytest.fixture
def make_run(tmp_path: Path):
    """Make folders with photos and an option file, the same every time."""

    def make(name: str, workers: int = 0) -> Path:
        folder = tmp_path / name
        generator = np.random.default_rng(0)
        for side, factor in (("gt", 2), ("lq", 1)):
            (folder / side).mkdir(parents=True)
            for index in range(5):
                image = generator.integers(0, 256, (20 * factor, 24 * factor, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / side / f"{index}.png"), image)
        opt = yaml_options.read(find("demo_HAN_x4"))
        opt.update(name="run", scale=2)
        opt["network_g"].update(upscale=2, num_feat=8, num_group=2, num_block=1)
        for dataset in opt["datasets"].values():
            dataset.update(dataroot_gt="gt", dataroot_lq="lq", io_backend={"type": "disk"})
        opt["datasets"]["train"].update(gt_size=16, batch_size_per_gpu=2, num_worker_per_gpu=workers)
        opt["train"].update(total_iter=TOTAL, scheduler={"type": "MultiStepLR", "milestones": [6, 11], "gamma": 0.5})
        opt["val"].update(val_freq=3)
        for metric in opt["val"]["metrics"].values():
            metric["crop_border"] = 2
        opt["logger"].update(print_freq=1, save_checkpoint_freq=SAVE_EVERY, use_tb_logger=False, keep_best="psnr")
        (folder / "run.yml").write_text(yaml.safe_dump(opt))
        return folder

    return make


def assert_equal(one: object, other: object, where: str = "") -> None:
    """Equality to the bit through dicts, lists and tensors."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{where}[{index}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_run(folder: Path, reference: Path) -> None:
    for name in (
        "models/net_g_latest.pth",
        f"models/net_g_{TOTAL}.pth",
        "models/net_g_best.pth",
        f"training_states/{TOTAL}.state",
    ):
        loaded = [torch.load(run / "experiments/run" / name, weights_only=True) for run in (folder, reference)]
        for content in loaded:
            content.pop("options", None)  # auto_resume stands in them
        assert_equal(loaded[0], loaded[1], name)
    for name in ("train.csv", "val_demo_test.csv"):
        texts = [(run / "experiments/run" / name).read_text() for run in (folder, reference)]
        assert texts[0] == texts[1]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(make_run, workers: int) -> None:
    reference, killed = make_run("reference", workers), make_run("killed", workers)
    code, text = run(reference)
    assert code == 0, text
    code, _ = run_until(killed, 8, signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, text = run_until(killed, 13, signal.SIGKILL, "--auto_resume")
    assert "iter: 5." in text
    code, text = run(killed, "--auto_resume")
    assert code == 0, text
    assert "iter: 10." in text
    assert_same_run(killed, reference)
    assert "psnr: highest" in text
    assert (killed / "experiments/run/curves.png").stat().st_size > 10_000
    rows = list(csv.DictReader((killed / "experiments/run/train.csv").open()))
    assert [int(row["iter"]) for row in rows] == list(range(1, TOTAL + 1))


@pytest.mark.slow
def test_only_the_last_states_are_kept(make_run) -> None:
    folder = make_run("kept")
    text = (folder / "run.yml").read_text().replace("keep_best: psnr", "keep_best: psnr\n  keep_last: 2")
    (folder / "run.yml").write_text(text)
    assert run(folder)[0] == 0
    experiment = folder / "experiments/run"
    assert {path.name for path in (experiment / "training_states").iterdir()} == {"10.state", f"{TOTAL}.state"}
    assert {path.stem for path in (experiment / "models").iterdir()} == {
        "net_g_10", f"net_g_{TOTAL}", "net_g_best", "net_g_latest",
    }  # fmt: skip


@pytest.mark.parametrize("sent", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signals_save_and_stop(make_run, sent: signal.Signals) -> None:
    reference, stopped = make_run("reference"), make_run("stopped")
    assert run(reference)[0] == 0
    code, text = run_until(stopped, 7, sent)
    assert code == 3, text
    assert f"Stopped by {sent.name}" in text
    assert "--auto_resume goes on from it" in text
    assert run(stopped, "--auto_resume")[0] == 0
    for name in ("params", "params_ema"):
        path = "experiments/run/models/net_g_latest.pth"
        both = [torch.load(folder / path, weights_only=True)[name] for folder in (stopped, reference)]
        assert_equal(both[0], both[1], name)


@pytest.mark.slow
def test_damaged_newest_state_falls_back(make_run) -> None:
    reference, damaged = make_run("reference"), make_run("damaged")
    assert run(reference)[0] == 0
    assert run_until(damaged, 12, signal.SIGKILL)[0] == -signal.SIGKILL
    state = damaged / "experiments/run/training_states/10.state"
    state.write_bytes(state.read_bytes()[:3000])
    code, text = run(damaged, "--auto_resume")
    assert code == 0, text
    assert "Skipped 10.state" in text
    assert "iter: 5." in text
    assert_same_run(damaged, reference)

    for path in (damaged / "experiments/run/training_states").iterdir():
        path.write_bytes(b"")
    code, text = run(damaged, "--auto_resume")
    assert code == 2
    assert "no training state can be gone on from" in text


def test_an_unfinished_run_is_never_set_aside_silently(make_run) -> None:
    folder = make_run("unfinished")
    assert run_until(folder, 6, signal.SIGKILL)[0] == -signal.SIGKILL
    code, text = run(folder)
    assert code == 2
    assert "stopped at iteration 5; add --auto_resume" in text
    assert [path.name for path in (folder / "experiments").iterdir()] == ["run"]
    code, text = run(folder, "--fresh", "--force_yml", "train:total_iter=1")
    assert code == 0, text
    assert len(list((folder / "experiments").glob("run_archived_*"))) == 1


@pytest.mark.slow
def test_changed_options_are_shown(make_run) -> None:
    folder = make_run("changed")
    assert run_until(folder, 6, signal.SIGKILL)[0] == -signal.SIGKILL
    code, text = run(folder, "--auto_resume", "--force_yml", "train:total_iter=8")
    assert code == 0, text
    assert "Changed since then: train:total_iter: 14 -> 8" in text
    kept = yaml_options.read(folder / "experiments/run/run.yml")
    assert kept["train"]["total_iter"] == 8


def test_two_ranks_equal_one_and_go_on_as_one(make_run) -> None:
    """The same global batch on one and on two processes; then the second run is gone on with by one process."""
    alone, together = make_run("alone"), make_run("together")
    shorter = "train:total_iter=10"
    code, text = run(alone, "--force_yml", shorter)
    assert code == 0, text
    code, text = run(together, "--force_yml", shorter, "datasets:train:batch_size_per_gpu=1", ranks=2)
    assert code == 0, text

    def weights(folder: Path, iteration: int) -> dict[str, torch.Tensor]:
        path = folder / f"experiments/run/models/net_g_{iteration}.pth"
        return torch.load(path, weights_only=True)["params_ema"]

    def compare(iteration: int) -> None:
        for key, value in weights(alone, iteration).items():
            torch.testing.assert_close(weights(together, iteration)[key], value, rtol=1e-3, atol=1e-5)
        for name in ("psnr", "ssim"):
            values = [
                [float(row[name]) for row in csv.DictReader((folder / "experiments/run/val_demo_test.csv").open())]
                for folder in (alone, together)
            ]
            assert values[0] == pytest.approx(values[1], abs=1e-3)

    compare(10)
    assert run(alone, "--auto_resume")[0] == 0
    code, text = run(together, "--auto_resume")
    assert code == 0, text
    assert "Changed since then: datasets:train:batch_size_per_gpu: 1 -> 2" in text
    compare(TOTAL)
