"""A run that was killed and resumed has exactly the same results as an uninterrupted run."""

import csv
import signal
from typing import Any

import pytest
import torch
from runs import TOTAL, assert_close_scores, assert_close_weights, assert_equal, assert_same_run, run, run_until

from han_arch.opt import read

pytestmark = pytest.mark.usefixtures("basicsr")


@pytest.mark.parametrize(
    ("workers", "winograd"),
    [(0, False), pytest.param(2, False, marks=pytest.mark.slow), pytest.param(0, True, marks=pytest.mark.slow)],
)
def test_killed_and_resumed_equals_uninterrupted(
    make_run, workers: int, winograd: bool, request: pytest.FixtureRequest
) -> None:
    if winograd:
        request.getfixturevalue("winograd_compiler")
    reference, killed = (make_run(name, workers, winograd) for name in ("reference", "killed"))
    code, text = run(reference)
    assert code == 0, text
    assert ("convolutions of the network can use Winograd's algorithm" in text) == winograd
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
    """The data workers receive the signal too, as with Ctrl-C in a shell."""
    reference, stopped = make_run("reference", workers=1), make_run("stopped", workers=1)
    assert run(reference)[0] == 0
    code, text = run_until(stopped, 7, sent, to_all=True)
    assert code == 3, text
    assert f"Stopped by {sent.name}" in text
    assert "after iteration" in text
    assert "--auto_resume" in text
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
    assert "no usable training state" in text
    assert "Skipped 10.state" in text
    assert "--fresh" in text


def test_an_unfinished_run_is_never_renamed_silently(make_run) -> None:
    folder = make_run("unfinished")
    assert run_until(folder, 6, signal.SIGKILL)[0] == -signal.SIGKILL
    code, text = run(folder)
    assert code == 2
    assert "iteration 5" in text
    assert "--auto_resume" in text
    assert [path.name for path in (folder / "experiments").iterdir()] == ["run"]
    code, text = run(folder, "--fresh", "--force_yml", "train:total_iter=1")
    assert code == 0, text
    assert len(list((folder / "experiments").glob("run_archived_*"))) == 1


@pytest.mark.parametrize("content", [{"params": {}}, {"epoch": 0, "optimizers": [], "schedulers": []}, {}], ids=list)
def test_resume_state_must_be_a_training_state(make_run, content: dict[str, Any]) -> None:
    folder = make_run("wrong_state")
    torch.save(content, folder / "other.pth")
    code, text = run(folder, "--force_yml", "path:resume_state=other.pth")
    assert code == 2, text
    assert "Traceback" not in text
    (line,) = [line for line in text.splitlines() if "path:resume_state" in line]
    for part in (
        "other.pth is not a training state",
        "epoch, iter",
        f"found {', '.join(content) or 'none'}",
        "training_states/",
    ):
        assert part in line
    assert not (folder / "experiments").exists()


@pytest.mark.slow
def test_changed_options_are_shown(make_run) -> None:
    folder = make_run("changed")
    assert run_until(folder, 6, signal.SIGKILL)[0] == -signal.SIGKILL
    code, text = run(folder, "--auto_resume", "--force_yml", "train:total_iter=8")
    assert code == 0, text
    assert "train:total_iter: 14 -> 8" in text
    kept = read.read(folder / "experiments/run/run.yml")
    assert kept["train"]["total_iter"] == 8


@pytest.mark.parametrize("winograd", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_ranks_equal_one_and_one_continues_their_run(
    make_run, winograd: bool, request: pytest.FixtureRequest
) -> None:
    """Train with the same total batch in one and in two processes; then resume both runs in one process."""
    if winograd:
        request.getfixturevalue("winograd_compiler")
    alone, together = (make_run(name, winograd=winograd) for name in ("alone", "together"))
    shorter = "train:total_iter=10"
    code, text = run(alone, "--force_yml", shorter)
    assert code == 0, text
    code, text = run(together, "--force_yml", shorter, "datasets:train:batch_size_per_gpu=1", ranks=2)
    assert code == 0, text
    assert_close_weights(together, alone, 10)
    assert_close_scores(together, alone, count=4)  # validations of iterations 3, 6, 9 and 10
    assert run(alone, "--auto_resume")[0] == 0
    code, text = run(together, "--auto_resume")
    assert code == 0, text
    assert "datasets:train:batch_size_per_gpu: 1 -> 2" in text
    assert_close_weights(together, alone, TOTAL)
    assert_close_scores(together, alone, count=6)
