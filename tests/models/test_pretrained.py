"""Run `basicsr train` and `test` with checkpoints of other codebases as `path:pretrain_network_g`."""

import copy
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import warm
import yaml

from han_arch import HAN

NETWORK_G = {
    "type": "HAN",
    "num_in_ch": 3,
    "num_out_ch": 3,
    "num_feat": 16,
    "num_group": 10,
    "num_block": 1,
    "squeeze_factor": 4,
}


def run_command(folder: Path, command: str, options: dict) -> subprocess.CompletedProcess[str]:
    (folder / "options.yml").write_text(yaml.safe_dump(options, sort_keys=False), "utf-8")
    return warm.run(["-m", "han_arch", command, "-opt", "options.yml"], folder)


def options_for(scale: int, network_g: dict, checkpoint: Path, strict: bool) -> dict:
    return {
        "name": "parity",
        "model_type": "HANModel",
        "scale": scale,
        "num_gpu": 0,
        "manual_seed": 0,
        "network_g": network_g | {"upscale": scale},
        "path": {"pretrain_network_g": str(checkpoint), "strict_load_g": strict},
    }


@pytest.mark.parametrize(
    ("scale", "num_block", "variant", "winograd"),
    [(2, 1, "full", False), (4, 2, "full", False), (2, 1, "chop", False), (4, 2, "self_ensemble", False),
     (4, 2, "full", True)],
)  # fmt: skip
def test_authors_checkpoint_gives_the_authors_pixels(
    shared_data,
    tmp_path: Path,
    scale: int,
    num_block: int,
    variant: str,
    winograd: bool,
    request: pytest.FixtureRequest,
) -> None:
    if winograd:
        request.getfixturevalue("winograd_compiler")
    known = np.load(shared_data / "parity" / f"official_han_x{scale}.npz")
    (tmp_path / "lq").mkdir()
    cv2.imwrite(str(tmp_path / "lq" / "image.png"), known["lq"][..., ::-1])
    checkpoint = shared_data / "parity" / f"official_han_x{scale}.pt"
    options = options_for(scale, NETWORK_G | {"num_block": num_block}, checkpoint, strict=True) | {
        "datasets": {
            "test_1": {
                "name": "known",
                "type": "SingleImageDataset",
                "dataroot_lq": "lq",
                "io_backend": {"type": "disk"},
            }
        },
        "val": {"save_img": True, "suffix": None, "inference": variant},
        "winograd": winograd,
    }
    done = run_command(tmp_path, "test", options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("can use Winograd's algorithm" in done.stdout + done.stderr) == winograd
    assert "is HAN in the authors' format, 10 groups" in done.stdout + done.stderr
    (written,) = (tmp_path / "results").rglob("*.png")
    pixels = cv2.imread(str(written))[..., ::-1].transpose(2, 0, 1)
    exact = known[variant].clip(0, 255)
    assert np.abs(pixels - exact).max() <= 0.5 + 1e-3  # rounded to integers; 1e-3 allows ties to round either way


def training_options(tmp_path: Path, checkpoint: Path) -> dict:
    for folder, size in (("gt", 64), ("lq", 16)):
        (tmp_path / folder).mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / folder / "a.png"), noise)
    return options_for(4, NETWORK_G, checkpoint, strict=False) | {
        "datasets": {
            "train": {
                "name": "noise",
                "type": "PairedImageDataset",
                "dataroot_gt": "gt",
                "dataroot_lq": "lq",
                "filename_tmpl": "{}",
                "io_backend": {"type": "disk"},
                "gt_size": 32,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 1,
                "dataset_enlarge_ratio": 1,
                "prefetch_mode": None,
            }
        },
        "train": {
            "ema_decay": 0.5,
            "optim_g": {"type": "Adam", "lr": 1e-20, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [9], "gamma": 0.5},
            "total_iter": 1,
            "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "logger": {"print_freq": 1, "save_checkpoint_freq": 1, "use_tb_logger": False},
    }


def test_warm_start_of_training_lists_what_was_taken(basicsr, tmp_path: Path) -> None:
    """Start from BasicSR's RCAN x2. The learning rate is almost 0, so the saved weights are the initial ones."""
    from basicsr.archs.rcan_arch import RCAN

    torch.manual_seed(0)
    settings = {key: value for key, value in NETWORK_G.items() if key != "type"}
    rcan = RCAN(**settings, upscale=2)
    torch.save({"params": rcan.state_dict()}, tmp_path / "rcan_x2.pth")
    done = run_command(tmp_path, "train", training_options(tmp_path, tmp_path / "rcan_x2.pth"))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "is RCAN in BasicSR's format, 10 groups x 1 blocks x 16 features, x2" in said
    assert "loaded: conv_first (2), body (100), conv_after_body (2); newly initialised: lam (1)" in said
    saved = torch.load(tmp_path / "experiments/parity/models/net_g_1.pth", weights_only=True)
    backbone = {key: value for key, value in rcan.state_dict().items() if not key.startswith(("upsample", "conv_last"))}
    assert all(torch.equal(saved["params"][key], value) for key, value in backbone.items())
    for key, value in saved["params"].items():
        torch.testing.assert_close(saved["params_ema"][key], value, rtol=0, atol=1e-7)


def test_mismatch_is_one_line(tmp_path: Path, basicsr) -> None:
    settings = {key: value for key, value in NETWORK_G.items() if key != "type"}
    torch.save(HAN(**settings, upscale=2).state_dict(), tmp_path / "x2.pth")
    options = copy.deepcopy(training_options(tmp_path, tmp_path / "x2.pth"))
    options["path"]["strict_load_g"] = True
    done = run_command(tmp_path, "train", options)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "does not fit the network: upscale is 2 in the file, 4 in network_g" in last
