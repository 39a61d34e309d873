"""A resume that cannot be exact is refused with one line, before anything is renamed or written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import make_folder

import han_arch
from han_arch.cli import main
from han_arch.errors import UserError
from han_arch.locks import held
from han_arch.opt import load
from han_arch.opt.normalise import RunRequest

pytestmark = pytest.mark.usefixtures("basicsr")

STATES = Path("experiments/run/training_states")
MODELS = Path("experiments/run/models")


def options(*overrides: str, auto_resume: bool = True) -> dict[str, Any]:
    request = RunRequest(is_train=True, root=Path.cwd(), overrides=overrides, auto_resume=auto_resume)
    return load.load(Path("run.yml"), request)[0]


@pytest.fixture(scope="module")
def stopped(basicsr: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that was stopped: its states of the iterations 5 and 10, without the data sets."""
    from basicsr.models import build_model

    han_arch.register()
    folder = make_folder(tmp_path_factory.mktemp("stopped") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = build_model(options())
        for name in (STATES, MODELS):
            name.mkdir(parents=True)
        for current_iter in (5, 10):
            model.feed_data({"lq": torch.rand(1, 3, 8, 8), "gt": torch.rand(1, 3, 16, 16)})
            model.optimize_parameters(current_iter)
            model.save(0, current_iter)
    return folder


@pytest.fixture
def run_folder(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the stopped run. It is the current folder."""
    shutil.copytree(stopped, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def find(*overrides: str, auto_resume: bool = True) -> Any:
    from han_arch.training import resume

    return resume.find(options(*overrides, auto_resume=auto_resume))


REFUSED = {
    "below the state": (("train:total_iter=7",), ["10.state", "iteration 10", "total_iter (7)"]),
    "another network": (
        ("network_g:num_feat=12", "network_g:squeeze_factor=4"),
        ["10.state", "network_g", "has 8 in the checkpoint", "12 in the options"],
    ),
    "deeper network": (("network_g:num_block=2",), ["10.state", "network_g", ".1.rcab.0.bias", "no tensor"]),
    "another network, loaded as far as it fits": (
        ("network_g:num_block=2", "path:strict_load_g=false"),
        ["10.state", "weight tensors", "network_g"],
    ),
    "another optimizer": (
        ("train:optim_g={type: SGD, lr: 1e-3, momentum: 0.9}",),
        ["10.state", "momentum_buffer", "SGD", "pretrain_network_g"],
    ),
    "an option that needs other moments": (
        ("train:optim_g={type: Adam, lr: 1e-3, amsgrad: true}",),
        ["10.state", "max_exp_avg_sq", "Adam"],
    ),
}


@pytest.mark.parametrize(("overrides", "parts"), REFUSED.values(), ids=REFUSED)
def test_options_that_do_not_fit_the_state(run_folder: Path, overrides: tuple[str, ...], parts: list[str]) -> None:
    before = snapshot(run_folder)
    with pytest.raises(UserError) as refused:
        find(*overrides)
    assert "\n" not in str(refused.value)
    for part in parts:
        assert part in str(refused.value)
    assert snapshot(run_folder) == before


def test_changes_that_keep_the_resume_exact_are_allowed(run_folder: Path) -> None:
    changes = ("train:optim_g={type: AdamW, lr: 1e-4}", "train:precision=fp16", "train:total_iter=10")
    assert find(*changes, "train:scheduler={type: StepLR, step_size: 3}").start_iter == 10


def test_state_of_another_run(run_folder: Path) -> None:
    changed(run_folder / STATES / "5.state", lambda state: state["options"].update(name="earlier_name"))
    assert find(f"path:resume_state={STATES / '5.state'}", auto_resume=False).start_iter == 5, "a renamed run"
    for copy in ("other", "new"):  # without and with a checkpoint of the same iteration
        shutil.copytree("experiments/run", f"experiments/{copy}")
        with pytest.raises(UserError) as refused:
            find("path:resume_state=experiments/other/training_states/10.state", "name=new", auto_resume=False)
        for part in ("experiments/other/training_states/10.state", "the run run", "is new", "pretrain_network_g"):
            assert part in str(refused.value)


def foreign(key: str, value: object) -> Callable[[Path], None]:
    return lambda folder: changed(folder / STATES / "10.state", lambda state: state.update({key: value}))


def nan(folder: Path) -> None:
    changed(folder / MODELS / "net_g_10.pth", lambda net: net["params_ema"]["conv_last.bias"].fill_(float("nan")))


DAMAGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "cut": (lambda folder: (folder / STATES / "10.state").write_bytes(b"PK\3\4"), ["10.state is damaged"]),
    "empty": (lambda folder: (folder / STATES / "10.state").write_bytes(b""), ["10.state is damaged"]),
    "a folder": (
        lambda folder: ((folder / STATES / "10.state").unlink(), (folder / STATES / "10.state").mkdir()),
        ["10.state"],
    ),
    "without its network": (lambda folder: (folder / MODELS / "net_g_10.pth").unlink(), ["net_g_10.pth"]),
    "with a cut network": (
        lambda folder: (folder / MODELS / "net_g_10.pth").write_bytes(b"PK\3\4"),
        ["net_g_10.pth is damaged"],
    ),
    "with nan weights": (nan, ["net_g_10.pth", "nan", "params_ema", "conv_last.bias"]),
    "text as iteration": (foreign("iter", "ten"), ["10.state", "iter", "'ten'"]),
    "no list of optimizers": (foreign("optimizers", {}), ["10.state", "optimizers"]),
    "half of the keys": (
        lambda folder: changed(folder / STATES / "10.state", lambda state: state.pop("random")),
        ["10.state", "random"],
    ),
}


@pytest.mark.parametrize(("damage", "parts"), DAMAGES.values(), ids=DAMAGES)
def test_newest_state_is_bad(run_folder: Path, damage: Callable[[Path], object], parts: list[str]) -> None:
    damage(run_folder)
    found = find()
    assert found.start_iter == 5
    for part in ["Skipped 10.state", *parts]:
        assert part in found.notes[0]
    assert "5.state" in found.notes[1]
    if (run_folder / STATES / "10.state").is_file():
        with pytest.raises(UserError) as refused:
            find(f"path:resume_state={STATES / '10.state'}", auto_resume=False)
        for part in ["path:resume_state", *parts, str(STATES / "5.state")]:
            assert part in str(refused.value)


MISFITS: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "moments of another shape": (
        lambda state: state["optimizers"][0]["state"][0].update(exp_avg=torch.zeros(5, 5)),
        ["exp_avg", "5x5"],
    ),
    "two optimizers": (lambda state: state["optimizers"].append(state["optimizers"][0]), ["one optimizer", "2"]),
    "groups without weights": (
        lambda state: state["optimizers"][0]["param_groups"].append({"params": []}),
        ["weight tensors"],
    ),
    "no schedule": (lambda state: state["schedulers"].clear(), ["one schedule", "0"]),
    "text as optimizer": (lambda state: state["optimizers"].__setitem__(0, "Adam"), ["damaged"]),
}


@pytest.mark.parametrize(("change", "parts"), MISFITS.values(), ids=MISFITS)
def test_state_with_foreign_content(
    run_folder: Path, change: Callable[[dict[str, Any]], object], parts: list[str]
) -> None:
    changed(run_folder / STATES / "10.state", change)
    with pytest.raises(UserError) as refused:
        find()
    for part in ["10.state", *parts]:
        assert part in str(refused.value)


def test_state_of_basicsr_with_another_schedule(run_folder: Path) -> None:
    own = ("options", "random", "guard", "scheduled_lrs", "best_metric_results", "scaler", "validated")
    changed(run_folder / STATES / "10.state", lambda state: [state.pop(key) for key in own])
    assert find().start_iter == 10
    with pytest.raises(UserError, match=r"10\.state .*no eta_min, periods.*train:scheduler"):
        find("train:scheduler={type: CosineAnnealingRestartLR, periods: [14], eta_min: 1e-6}")


@pytest.mark.parametrize("flag", ["--auto_resume", "--fresh", "--check"])
def test_second_run_of_one_name(run_folder: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The first run is this block. The second one stops before it renames or writes anything."""
    with held(run_folder / "experiments/run", "the first run"):
        before = snapshot(run_folder)
        assert main(["train", "-opt", "run.yml", flag]) == (0 if flag == "--check" else 2)
        assert snapshot(run_folder) == before
    error = capsys.readouterr().err
    assert ("the training run is in progress: process " in error) == (flag != "--check")
    assert "Traceback" not in error


def test_check_reads_the_training_state(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-opt", "run.yml", "--check", "--auto_resume"]
    assert main([*command, "--force_yml", "train:total_iter=7"]) == 2
    assert "10.state" in capsys.readouterr().err
    assert main(command) == 0
    assert "iteration 10" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [(), ("--check",)], ids=["run", "check"])
@pytest.mark.parametrize("content", [b"PK\3\4 cut", None], ids=["cut", "nan"])
def test_bad_weights_are_found_before_anything_is_written(
    run_folder: Path, flags: tuple[str, ...], content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    nan(run_folder)
    shutil.copy(run_folder / MODELS / "net_g_10.pth", "start.pth")
    if content:
        Path("start.pth").write_bytes(content)
    before = snapshot(run_folder)
    pretrained = ("--force_yml", "path:pretrain_network_g=start.pth", "path:param_key_g=params_ema", "name=new")
    assert main(["train", "-opt", "run.yml", *flags, *pretrained]) == 2
    assert snapshot(run_folder) == before
    error = capsys.readouterr().err
    assert "start.pth" in error
    assert ("damaged" if content else "conv_last.bias") in error


def test_a_kill_while_old_checkpoints_are_deleted_leaves_none_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from han_arch.training.resume import keep_last

    for iteration in (10, 20):
        for name in (f"{iteration}.state", f"net_g_{iteration}.pth"):
            (tmp_path / name).touch()
    opt = {"path": {"training_states": str(tmp_path), "models": str(tmp_path)}}
    unlink = Path.unlink

    def unlink_and_die(self: Path, missing_ok: bool = False) -> None:
        unlink(self, missing_ok)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "unlink", unlink_and_die)
    with pytest.raises(KeyboardInterrupt):
        keep_last(opt, 1)
    monkeypatch.undo()
    keep_last(opt, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"20.state", "net_g_20.pth"}
