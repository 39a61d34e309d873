"""Tests of `--check` in `basicsr train` and `basicsr test` with shipped option files and with BasicSR's own."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from standins import changed, make_files, sound_options

from han_arch.cli import main
from han_arch.opt import read

HEAD = {"model_type": "SRModel", "scale": 4, "num_gpu": 1, "manual_seed": 10}
PAIRS = {"name": "pairs", "type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq",
         "io_backend": {"type": "disk"}}  # fmt: skip
TRAIN_PAIRS = {**PAIRS, "filename_tmpl": "{}", "gt_size": 192, "use_hflip": True, "use_rot": True, "use_shuffle": True,
               "num_worker_per_gpu": 6, "batch_size_per_gpu": 4, "dataset_enlarge_ratio": 1,
               "prefetch_mode": None}  # fmt: skip
TAIL = {
    "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
    "train": {
        "ema_decay": 0.999,
        "optim_g": {"type": "Adam", "lr": 2e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
        "scheduler": {"type": "MultiStepLR", "milestones": [25, 40], "gamma": 0.5},
        "total_iter": 50, "warmup_iter": -1, "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
    },
    "val": {"val_freq": 5e3, "save_img": False,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 4, "test_y_channel": False}}},
    "logger": {"print_freq": 100, "save_checkpoint_freq": 5e3, "use_tb_logger": True,
               "wandb": {"project": None, "resume_id": None}},
    "dist_params": {"backend": "nccl", "port": 29500},
}  # fmt: skip
CHANNELS = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 1, "upscale": 4, "res_scale": 1,
            "img_range": 255.0, "rgb_mean": [0.4488, 0.4371, 0.4040]}  # fmt: skip
# Options of BasicSR's train_EDSR_Lx4, train_RCAN_x2 and train_SwinIR_SRx4_scratch, with current and old names.
UPSTREAM: dict[str, dict[str, Any]] = {
    "EDSR": {"network_g": {"type": "EDSR", **CHANNELS}, "path:strict_load": False, "path:pretrain_model_g": "x2.pth",
             "datasets:train:use_flip": True},
    "RCAN": {"network_g": {"type": "RCAN", **CHANNELS, "num_group": 1, "squeeze_factor": 16}},
    "SwinIR": {"model_type": "SwinIRModel", "num_gpu": "auto", "datasets:train:meta_info_file": "meta_info.txt",
               "network_g": {"type": "SwinIR", "upscale": 4, "in_chans": 3, "img_size": 48, "window_size": 8,
                             "img_range": 1.0, "depths": [1], "embed_dim": 12, "num_heads": [2], "mlp_ratio": 2,
                             "upsampler": "pixelshuffle", "resi_connection": "1conv"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(basicsr: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def upstream_options(network: str) -> dict[str, Any]:
    own = dict(UPSTREAM[network])
    if "datasets:train:use_flip" in own:
        train = {key: value for key, value in TRAIN_PAIRS.items() if key != "use_hflip"}
    else:
        train = TRAIN_PAIRS
    path = {} if "path:pretrain_model_g" in own else TAIL["path"]
    base = {"name": f"upstream_{network}", **HEAD, "datasets": {"train": train, "val": PAIRS}, **TAIL, "path": path}
    return changed(base, own)


@pytest.mark.parametrize("name", read.run_names())
def test_shipped_files_pass_on_stand_in_folders(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opt = read.read(name)
    make_files(opt, folder)
    before = sorted(folder.rglob("*"))
    assert main(["train" if "train" in opt else "test", "-opt", name, "--check"]) == 0, capsys.readouterr().err
    output = capsys.readouterr()
    assert output.err == ""
    assert yaml.safe_load(output.out)["network_g"] == opt["network_g"]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("network", list(UPSTREAM))
def test_options_of_upstream_are_known(network: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_files({"datasets": {"val": PAIRS}}, folder)
    (folder / "meta_info.txt").write_text("".join(f"image{index}.png (192,192,3)\n" for index in range(4)))
    torch.save({"params": {"weight": torch.zeros(1)}}, folder / "x2.pth")
    (folder / "own.yml").write_text(yaml.safe_dump(upstream_options(network)))
    assert main(["train", "-opt", "own.yml", "--check"]) == 0, capsys.readouterr().err
    output = capsys.readouterr()
    assert output.err.count("warning") == (3 if network == "EDSR" else 0)
    resolved = yaml.safe_load(output.out)
    assert resolved["datasets"]["train"]["use_hflip"] is True
    assert resolved["path"]["pretrain_network_g"] == ("x2.pth" if network == "EDSR" else None)
    assert resolved["path"]["strict_load_g"] is (network != "EDSR")


def test_what_is_printed_is_the_same_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opt = changed(sound_options(), {"manual_seed": None, "val:val_freq": 4e2})
    make_files(opt, folder)
    (folder / "own.yml").write_text(yaml.safe_dump(opt))
    command = ["train", "-opt", "own.yml", "--check"]
    assert main([*command, "--force_yml", "train:optim_g:lr=3e-4", "datasets:train:batch_size_per_gpu=2"]) == 0
    first = capsys.readouterr().out
    resolved = yaml.safe_load(first)
    assert f"the run would write to {folder}/experiments/demo_HAN_x4" in first
    assert (resolved["train"]["optim_g"]["lr"], resolved["datasets"]["train"]["batch_size_per_gpu"]) == (3e-4, 2)
    assert (resolved["val"]["val_freq"], resolved["num_gpu"]) == (400, 0)
    assert isinstance(resolved["manual_seed"], int)
    (folder / "own.yml").write_text(first)
    assert main(command) == 0
    assert capsys.readouterr().out == first


def test_wrong_files_give_2_and_a_line_for_each_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opt = sound_options()
    make_files(opt, folder)
    (folder / "own.yml").write_text(yaml.safe_dump(changed(opt, {"train:total_iters": 3})))
    assert main(["train", "-opt", "own.yml", "--check"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("basicsr train: error: own.yml: train:total_iters")
    assert "total_iter?" in line
    (folder / "own.yml").write_text(yaml.safe_dump(changed(opt, {"train:total_iters": 3, "logger:print_freq": 0})))
    assert main(["train", "-opt", "own.yml", "--check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "own.yml" in lines[0]
    assert "2 problems" in lines[0]
    assert sorted(line.split()[0] for line in lines[1:]) == ["logger:print_freq", "train:total_iters:"]


def test_training_itself_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --check, the options are checked too, before the run writes anything."""
    opt = changed(sound_options(), {"val:metrics:psnr:test_ychannel": True})
    make_files(opt, folder)
    (folder / "own.yml").write_text(yaml.safe_dump(opt))
    before = sorted(folder.rglob("*"))
    assert main(["train", "-opt", "own.yml"]) == 2
    message = capsys.readouterr().err
    assert "val:metrics:psnr:test_ychannel" in message
    assert "test_y_channel" in message
    assert sorted(folder.rglob("*")) == before
