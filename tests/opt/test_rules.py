"""Rules for combinations of options, and checks of the files in the options. Each rule fails once and passes once."""

import sys
from pathlib import Path
from typing import Any

import pytest
from standins import DELETE, IMAGES, found

from han_arch.speed.winograd import native

pytestmark = pytest.mark.usefixtures("demo_folder")


TRAIN, SCHEDULER = "datasets:train:", "train:scheduler:"
STEPS = {"type": "MultiStepLR", "milestones": [600, 900], "gamma": 0.5}
SECOND = {"name": "second", "type": "PairedImageDataset", "dataroot_gt": "datasets/demo_test/GT_x4",
          "dataroot_lq": "datasets/demo_test/LR_BIx4", "io_backend": {"type": "disk"}}  # fmt: skip
SINGLE = {"name": "real", "type": "SingleImageDataset", "dataroot_lq": "datasets/demo_test/LR_BIx4",
          "io_backend": {"type": "disk"}}  # fmt: skip
NIQE = {"niqe": {"type": "calculate_niqe", "crop_border": 4}}

# changes; path of the problem and parts of its text; changes that fix the problem
RULES = [
    ({"network_g:upscale": 2}, "network_g:upscale | scale (4) | 2", {"network_g:upscale": 4}),
    ({"val:metrics:psnr:crop_border": 2}, "warning: val:metrics:psnr:crop_border | 2 | scale (4)",
     {"val:metrics:psnr:crop_border": 4}),
    ({TRAIN + "gt_size": 130}, "datasets:train:gt_size | a multiple of scale (4), such as 128 or 132 | 130",
     {TRAIN + "gt_size": 132}),
    ({"scale": DELETE}, "datasets:train:type | PairedImageDataset | scale", {"scale": 4}),
    ({TRAIN + "prefetch_mode": "cpu"}, "datasets:train:prefetch_mode | cpu | ~",
     {TRAIN + "prefetch_mode": None}),
    ({TRAIN + "prefetch_mode": "cuda", TRAIN + "pin_memory": True, "num_gpu": 0},
     "datasets:train:prefetch_mode | GPU | ~", {TRAIN + "prefetch_mode": None}),
    ({TRAIN + "persistent_workers": True}, "datasets:train:persistent_workers | num_worker_per_gpu above 0",
     {TRAIN + "num_worker_per_gpu": 2}),
    ({"datasets:val:persistent_workers": True}, "datasets:val:persistent_workers | false",
     {"datasets:val:persistent_workers": False}),
    ({TRAIN + "use_shuffle": False}, "warning: datasets:train:use_shuffle | no effect",
     {TRAIN + "use_shuffle": True}),
    ({"datasets:test_1": SECOND}, "datasets | train, val, val_1, val_2, ... | test_1",
     {"datasets:test_1": DELETE, "datasets:val_1": SECOND}),
    ({"datasets:val_2": {**SECOND, "name": "demo_test"}}, "datasets | names | demo_test",
     {"datasets:val_2": SECOND}),
    ({"datasets:val_2": SINGLE}, "datasets:val_2:type | no GT | val:metrics | psnr, ssim",
     {"val:metrics": NIQE}),
    ({SCHEDULER + "periods": [700, 400], SCHEDULER + "restart_weights": [1, 1]},
     "train:scheduler:periods | total_iter (1200) | 1100",
     {SCHEDULER + "periods": [700, 500]}),
    ({SCHEDULER + "periods": [600, 600]}, "train:scheduler:periods | 2 | restart_weights has 1",
     {SCHEDULER + "restart_weights": [1, 0.5]}),
    ({"train:scheduler": {**STEPS, "restarts": [0, 5]}}, "train:scheduler:restarts | 2 | restart_weights has 1",
     {SCHEDULER + "restart_weights": [1, 0.5]}),
    ({"train:scheduler": STEPS, "train:warmup_iter": 600, "model_type": "SRModel"},
     "train:scheduler:milestones | warm-up | 600 | SRModel | [600]",
     {"train:warmup_iter": 599}),
    ({"train:scheduler": STEPS, "train:warmup_iter": 600, "model_type": "SRModel"},
     "train:scheduler:milestones | warm-up", {"model_type": "HANModel"}),
    ({"train:scheduler": STEPS, "train:total_iter": 600}, "warning: train:scheduler:milestones | total_iter (600)",
     {"train:total_iter": 601}),
    ({"train:warmup_iter": 1200}, "warning: train:warmup_iter | 1200 | total_iter",
     {"train:warmup_iter": 9}),
    ({"train:optim_g:type": "AdamW", "model_type": "SRModel"},
     "train:optim_g:type | Adam for model_type SRModel | AdamW",
     {"model_type": "HANModel"}),
    ({"train:scheduler": {"type": "StepLR", "step_size": 5}, "model_type": "SRModel"},
     "train:scheduler:type | StepLR | only with model_type HANModel | SRModel", {"model_type": "HANModel"}),
    ({"train:pixel_opt": {"type": "HuberLoss"}, "model_type": "SRModel"},
     "train:pixel_opt:type | HuberLoss | only with model_type HANModel | SRModel", {"model_type": "HANModel"}),
    ({"train:pixl_opt": {"type": "L1Loss"}},
     "warning: train:pixl_opt:type | L1Loss | pixel_opt", {"train:pixl_opt": None}),
    ({"train:pixel_opt": None}, "train | loss | pixel_opt or perceptual_opt",
     {"train:second_opt": {"type": "MSELoss"}}),
    ({"logger:keep_best": "psn"}, "logger:keep_best | val:metrics | 'psn' | psnr",
     {"logger:keep_best": "ssim"}),
    ({"logger:wandb:project": "han", "logger:use_tb_logger": False}, "logger:wandb:project | use_tb_logger: true",
     {"logger:use_tb_logger": True}),
    ({TRAIN + "dataset_enlarge_ratio": 10}, "warning: datasets:train:dataset_enlarge_ratio | no effect",
     {TRAIN + "dataset_enlarge_ratio": 1}),
    # names that become folders and files
    ({"name": "nul"}, "name | Windows | 'nul' | choose another name", {"name": "a"}),
    ({"name": "a" * 300}, "name | 200 bytes", {"name": "a" * 200}),
    ({"name": "a."}, "name | dot", {"name": "a.b"}),
    ({"datasets:val:name": "../elsewhere"}, "datasets:val:name | not contain '/'", {"datasets:val:name": "写真 5"}),
    ({"datasets:val:name": "a\nb"}, "datasets:val:name | must not contain", {"datasets:val:name": "a b"}),
    ({"val:suffix": "../x"}, "val:suffix | must not contain '/'", {"val:suffix": "_x"}),
    # files
    ({TRAIN + "dataroot_gt": "gone.lmdb"}, "datasets:train:dataroot_gt | 'gone.lmdb' | basicsr data prepare",
     {TRAIN + "dataroot_gt": "datasets/demo_train/GT_sub_x4.lmdb"}),
    ({"datasets:val:dataroot_lq": DELETE}, "datasets:val | dataroot_lq; | folder | LMDB",
     {"datasets:val:dataroot_lq": "datasets/demo_test/LR_BIx4"}),
    ({"datasets:val:dataroot_lq": "datasets"}, "datasets:val:dataroot_lq | 'datasets' | no images",
     {"datasets:val:dataroot_lq": "datasets/demo_test/LR_BIx4"}),
    ({"datasets:val:io_backend:type": "lmdb"}, "datasets:val:dataroot_gt | io_backend | .lmdb",
     {"datasets:val:io_backend:type": "disk"}),
    ({"path:pretrain_network_g": "gone.pth"}, "path:pretrain_network_g | 'gone.pth'",
     {"path:pretrain_network_g": "experiments/demo_HAN_x4/models/net_g_latest.pth"}),
    ({TRAIN + "meta_info_file": "gone.txt"}, "datasets:train:meta_info_file | 'gone.txt'",
     {TRAIN + "meta_info_file": None}),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "parts", "fixed"), RULES, ids=[row[1][:50] for row in RULES])
def test_rules(wrong: dict[str, Any], parts: str, fixed: dict[str, Any]) -> None:
    where, *rest = parts.split(" | ")
    problems = [problem for problem in found(wrong) if problem.startswith(where)]
    assert any(all(part in problem for part in rest) for problem in problems), problems
    assert found({**wrong, **fixed}) == []


def test_where_winograd_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    wanted = {"winograd": True, "network_g:num_feat": 32, "num_gpu": 0}
    assert found(wanted) == []
    for change, reason in (
        ({"network_g:num_feat": 24}, "num_feat that is a multiple of 16; got 24"),
        ({"train:precision": "bf16"}, "precision fp32; got bf16"),
        ({"train:compile": True}, "got compile true"),
        ({"num_gpu": 1}, "needs the CPU; the device is a GPU"),
    ):
        (problem,) = found({**wanted, **change})
        assert problem.startswith("warning: winograd has no effect")
        assert problem.endswith(reason)


def test_winograd_with_a_num_feat_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", sys.executable)
    (problem,) = found({"winograd": True, "network_g:num_feat": "many"})
    assert problem.startswith("network_g: HAN cannot be built")


def test_the_check_looks_for_winograds_compiler_and_does_not_start_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The compiler of this test is a script that makes a file. The cache of compiled kernels is empty."""
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("HAN_ARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", str(compiler))
    native.library.cache_clear()
    wanted = {"winograd": True, "network_g:num_feat": 32}
    assert found(wanted) == []
    assert not (tmp_path / "started").exists()
    compiler.unlink()
    (problem,) = found(wanted)
    assert problem.startswith("winograd must be false")
    assert str(compiler) in problem
    assert found({"winograd": False}) == []


@pytest.mark.parametrize("pinned", [True, False])
def test_cuda_prefetch_needs_pinned_memory(pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    problems = found({TRAIN + "prefetch_mode": "cuda", TRAIN + "pin_memory": pinned})
    assert len(problems) == (0 if pinned else 1)
    assert all("datasets:train:prefetch_mode" in problem and "pin_memory: true" in problem for problem in problems)


@pytest.mark.parametrize("ratio", [DELETE, 1])
def test_a_set_smaller_than_a_batch_is_no_problem(ratio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {TRAIN + "batch_size_per_gpu": 2 * IMAGES, TRAIN + "dataset_enlarge_ratio": ratio}
    assert found(small) == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert found(small) == []


def test_suffix_of_test_images() -> None:
    (problem,) = found({"val:suffix": DELETE}, "demo_test_HAN_x4")
    assert problem.startswith("val ")
    assert "suffix" in problem
    assert found({"val:suffix": "_mine"}, "demo_test_HAN_x4") == []
    assert found({"val:suffix": ""}, "demo_test_HAN_x4") == []


def test_training_set_in_a_test() -> None:
    problems = found({"datasets:train": {**SECOND, "name": "train"}}, "demo_test_HAN_x4")
    assert any(problem.startswith("datasets ") and "test_1" in problem and "train" in problem for problem in problems)


def test_unequal_folders_and_lmdb_as_a_folder() -> None:
    Path("datasets/demo_test/GT_x4/one_more.png").touch()
    (problem,) = found({})
    assert problem.startswith("datasets:val:")
    assert "GT_x4: one_more.png has no LQ image one_more.png in datasets/demo_test/LR_BIx4" in problem
    Path("datasets/demo_test/GT_x4/one_more.png").rename("datasets/demo_test/GT_x4/.hidden.png")
    assert found({}) == []
    Path("datasets/demo_test/GT_x4/data.mdb").touch()
    (problem,) = found({})
    assert problem.startswith("datasets:val:dataroot_gt")
    assert "'datasets/demo_test/GT_x4'" in problem
    assert "type: lmdb" in problem


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are not UTF-8")
def test_an_lmdb_whose_path_is_not_utf_8() -> None:
    """The library of LMDB cannot open it."""
    path = Path("K\udcf6ln.lmdb").absolute()
    Path("datasets/demo_train/GT_sub_x4.lmdb").rename(path)
    (problem,) = found({TRAIN + "dataroot_gt": str(path)})
    assert problem.startswith("datasets:train: ")
    assert r"K\udcf6ln.lmdb has a character that cannot be encoded; rename" in problem
