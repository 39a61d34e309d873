"""Tests of `normalise`, which completes the options of a run."""

import copy
from pathlib import Path

import pytest
import yaml
from standins import DELETE, changed, complete, found, sound_options

from han_arch.opt import load
from han_arch.opt.normalise import ADDED, Place, RunRequest, find_sections, normalise, without_added

pytestmark = pytest.mark.usefixtures("demo_folder")
TRAIN = "datasets:train:"
FOR_TRAIN = RunRequest(is_train=True, root=Path("/root"))


def test_whole_numbers_and_old_names() -> None:
    changes = {"val:val_freq": 4e2, "train:scheduler:periods": [1.2e3], TRAIN + "use_flip": True,
               TRAIN + "use_hflip": DELETE, "train:optim_g:lr": 1.0}  # fmt: skip
    (problem,) = found(changes)
    assert problem.startswith("warning: datasets:train:use_flip is the old name of use_hflip")
    opt = complete(changes)
    assert opt["datasets"]["train"]["use_hflip"] is True
    assert "use_flip" not in opt["datasets"]["train"]
    whole = [opt["val"]["val_freq"], opt["train"]["scheduler"]["periods"][0]]
    assert [(value, type(value)) for value in whole] == [(400, int), (1200, int)]
    assert isinstance(opt["train"]["optim_g"]["lr"], float)


def test_the_content_stays_as_it_is() -> None:
    content = changed(sound_options(), {"val:val_freq": 4e2, "path": None, TRAIN + "use_flip": True})
    before = copy.deepcopy(content)
    opt, _ = normalise(content, FOR_TRAIN)
    assert content == before
    assert opt != before
    assert opt["datasets"]["train"] is not content["datasets"]["train"]


def test_everything_that_parse_options_adds_is_there() -> None:
    request = RunRequest(is_train=True, root=Path("/root"), auto_resume=True, place=Place(True, 1, 2))
    opt, problems = normalise(changed(sound_options(), {"manual_seed": None, "num_gpu": "auto"}), request)
    assert problems == []
    assert (opt["is_train"], opt["auto_resume"], opt["dist"], opt["rank"], opt["world_size"]) == (
        True,
        True,
        True,
        1,
        2,
    )
    assert [(dataset["phase"], dataset["scale"]) for dataset in opt["datasets"].values()] == [("train", 4), ("val", 4)]
    assert isinstance(opt["manual_seed"], int)
    assert isinstance(opt["num_gpu"], int)
    assert opt["path"]["training_states"] == "/root/experiments/demo_HAN_x4/training_states"
    assert opt["root_path"] == "/root"
    test, _ = normalise(sound_options("demo_test_HAN_x4"), RunRequest(is_train=False, root=Path("/root")))
    assert test["path"]["results_root"] == test["path"]["log"] == "/root/results/demo_HAN_x4"
    assert "models" not in test["path"]
    both = opt | {"path": opt["path"] | test["path"]}
    for pattern, names in ADDED.items():
        sections = list(find_sections(both, pattern))
        assert sections
        for where, section in sections:
            assert set(names) <= section.keys(), where


def test_without_added_is_the_file_again() -> None:
    content = sound_options()
    assert without_added(normalise(content, FOR_TRAIN)[0]) == content | {"num_gpu": 0}
    assert yaml.safe_load(load.as_file(complete({}))) == content | {"num_gpu": 0}


@pytest.mark.parametrize("path", ["rank", TRAIN + "phase", "datasets:val:scale", "path:models"])
def test_files_have_no_options_that_the_command_sets(path: str) -> None:
    (problem,) = found({path: 1})
    assert problem.startswith(f"{path}: ")
    assert "the command sets it" in problem
    foreign = {path: 1, "model_type": "Foreign", TRAIN + "type": "Foreign", "datasets:val:type": "Foreign"}
    assert not any(problem.startswith(f"{path}:") for problem in found(foreign))


def test_debug_runs() -> None:
    request = RunRequest(is_train=True, root=Path("/root"), debug=True)
    opt, _ = normalise(sound_options(), request)
    assert opt["name"] == "debug_demo_HAN_x4"
    assert opt["path"]["log"].endswith("/debug_demo_HAN_x4")
    assert (opt["val"]["val_freq"], opt["logger"]["print_freq"], opt["logger"]["save_checkpoint_freq"]) == (8, 1, 8)
    assert normalise(opt, request)[0]["name"] == "debug_demo_HAN_x4"


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    changes = {
        "datasets:val:dataroot_gt": "~/datasets/demo_test/GT_x4",
        "path:resume_state": "~/1.state",
    }
    opt = complete(changes)
    assert opt["datasets"]["val"]["dataroot_gt"] == f"{tmp_path}/datasets/demo_test/GT_x4"
    assert opt["path"]["resume_state"] == f"{tmp_path}/1.state"
    assert found({"datasets:val:dataroot_gt": "~/datasets/demo_test/GT_x4"}) == []
