"""Run the `basicsr` command as a user does: prepare, train, resume and test HAN, EDSR and RCAN."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import warm
import yaml

from han_arch.cli import main

TINY = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "upscale": 2}
NETWORKS = {
    "HAN": {"type": "HAN", **TINY, "num_group": 2, "num_block": 1, "squeeze_factor": 4},
    "RCAN": {"type": "RCAN", **TINY, "num_group": 2, "num_block": 1, "squeeze_factor": 4},
    "EDSR": {"type": "EDSR", **TINY, "num_block": 2},
}
pytestmark = pytest.mark.usefixtures("basicsr")


def basicsr_command(folder: Path, *words: str, installed: bool = False) -> subprocess.CompletedProcess[str]:
    """Run `python -m han_arch` in a folder, or the installed command."""
    command = shutil.which("basicsr", path=str(Path(sys.executable).parent))
    if not installed or command is None:
        return warm.run(["-m", "han_arch", *words], folder)
    return subprocess.run([command, *words], cwd=folder, capture_output=True, text=True, timeout=200)


def smooth_photo(height: int, width: int, seed: int) -> np.ndarray:
    """Return an image with details of several sizes."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.random((height // step + 1, width // step + 1, 3)), (width, height)) for step in (4, 9, 25)
    ]
    return (sum(layers) / 3 * 255).astype(np.uint8)


def option_file(folder: Path, network: str, **changes: object) -> Path:
    """Write an option file for a few iterations on the workspace's data; start from the demo option file."""
    from han_arch.opt import read

    opt = read.read("demo_HAN_x4")
    opt.update(name=f"tiny_{network}", scale=2, network_g=dict(NETWORKS[network]))
    for key, suffix in (("train", ""), ("val", "")):
        opt["datasets"][key].update(dataroot_gt=f"data/GT_x2{suffix}", dataroot_lq=f"data/LR_BIx2{suffix}")
    opt["datasets"]["train"].update(
        dataroot_gt="data/GT_sub_x2.lmdb", dataroot_lq="data/LR_sub_BIx2.lmdb", gt_size=24, batch_size_per_gpu=2
    )
    opt["datasets"]["train"]["dataset_enlarge_ratio"] = 2
    opt["train"].update(total_iter=7, scheduler={"type": "MultiStepLR", "milestones": [4], "gamma": 0.5})
    opt["val"]["val_freq"] = 4
    for metric in opt["val"]["metrics"].values():
        metric["crop_border"] = 2
    opt["logger"].update(print_freq=1, save_checkpoint_freq=4)
    opt.update(changes)
    path = folder / f"{network}.yml"
    path.write_text(yaml.safe_dump(opt, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with three small photos, prepared for scale 2."""
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "photos").mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / "photos" / f"photo{index}.png"), smooth_photo(48, 64, index))
    done = basicsr_command(folder, "data", "prepare", "photos", "-o", "data", "--scale", "2", "--gt-size", "24")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("network", list(NETWORKS))
def test_train_checkpoint_test(workspace: Path, network: str) -> None:
    option_file(workspace, network)
    done = basicsr_command(workspace, "train", "-opt", f"{network}.yml", installed=network == "HAN")
    assert done.returncode == 0, done.stderr
    # with 3 images and batches of 2, BasicSR alone would stop early
    iterations = re.findall(r"iter:\s+(\d+), lr", done.stdout + done.stderr)
    assert [int(i) for i in iterations] == list(range(1, 8))

    experiment = workspace / "experiments" / f"tiny_{network}"
    assert {path.name for path in (experiment / "models").iterdir()} == {
        "net_g_4.pth", "net_g_7.pth", "net_g_latest.pth",
    }  # fmt: skip
    assert {path.name for path in (experiment / "training_states").iterdir()} == {"4.state", "7.state"}
    content = torch.load(experiment / "models" / "net_g_latest.pth", weights_only=True)
    assert content["network_g"] == NETWORKS[network]
    assert content["params"].keys() == content["params_ema"].keys()
    log = next(experiment.glob("train_*.log")).read_text()
    assert "other packages:" in log
    assert "torchvision.transforms.functional_tensor" in log
    assert re.search(r"Plugins: .*han_arch", log)

    test_options = yaml.safe_load((workspace / f"{network}.yml").read_text())
    for key in ("train", "logger"):
        del test_options[key]
    test_options["datasets"] = {"test_1": {**test_options["datasets"]["val"], "name": "photos"}}
    test_options["path"] = {
        "pretrain_network_g": f"experiments/tiny_{network}/models/net_g_latest.pth", "param_key_g": "params_ema",
    }  # fmt: skip
    test_options["val"].update(save_img=True, suffix=None)
    (workspace / f"test_{network}.yml").write_text(yaml.safe_dump(test_options, sort_keys=False))
    done = basicsr_command(workspace, "test", "-opt", f"test_{network}.yml")
    assert done.returncode == 0, done.stderr
    images = workspace / "results" / f"tiny_{network}" / "visualization" / "photos"
    assert cv2.imread(str(images / f"photo0_tiny_{network}.png")).shape == (48, 64, 3)
    # The test must equal the last validation of the training: same network, same images.
    last = re.findall(r"# psnr: ([\d.]+)", log)[-1]
    assert re.findall(r"# psnr: ([\d.]+)", done.stdout + done.stderr)[-1] == last


def test_upstream_model_and_auto_resume(workspace: Path) -> None:
    """BasicSR's own option file for SRModel, with num_gpu: 1, trains and resumes unchanged."""
    option_file(workspace, "EDSR", name="tiny_upstream", model_type="SRModel", num_gpu=1)
    resume = ("train", "-opt", "EDSR.yml", "--auto_resume")
    assert basicsr_command(workspace, *resume).returncode == 0
    done = basicsr_command(workspace, *resume, "--force_yml", "train:total_iter=9")
    assert done.returncode == 0, done.stderr
    assert "Resuming training from epoch: 4, iter: 7." in done.stdout + done.stderr
    assert not list((workspace / "experiments").glob("tiny_upstream_archived*"))


def test_debug_has_its_own_experiment_folder(workspace: Path) -> None:
    option_file(workspace, "HAN", name="tiny_debug_flag")
    done = basicsr_command(workspace, "train", "-opt", "HAN.yml", "--debug")
    assert done.returncode == 0, done.stderr
    assert (workspace / "experiments" / "debug_tiny_debug_flag").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "HANModle"}, "model_type: 'HANModle' is not a registered name; did you mean HANModel"),
        ({"network_g": {**NETWORKS["HAN"], "type": "HANN"}}, "did you mean HAN"),
        ({"network_g": {**NETWORKS["HAN"], "squeeze_factor": 16}}, "HAN cannot be built: num_feat must be at least"),
        ({"network_g": {**NETWORKS["HAN"], "num_feet": 3}}, "num_feet"),
        ({"name": "../elsewhere"}, "got '../elsewhere'"),
        ({"network_g": None}, "lacks network_g"),
        ({"path": {"pretrain_network_g": "gone.pth"}}, "path:pretrain_network_g: 'gone.pth' does not exist"),
    ],
)
def test_mistakes_are_one_message_and_make_no_folder(
    workspace: Path, changes: dict, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    option_file(workspace, "HAN", **{"name": "mistaken", **changes})
    monkeypatch.chdir(workspace)
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["train", "-opt", "HAN.yml"]))
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (workspace / "experiments" / "mistaken").exists()


@pytest.mark.parametrize("kind", ["garbage", "other network", "pickle that runs code"])
def test_checkpoints_that_do_not_fit(workspace: Path, kind: str) -> None:
    weights = workspace / "weights.pth"
    if kind == "garbage":
        weights.write_bytes(b"no checkpoint at all")
    elif kind == "other network":
        torch.save({"params": {"conv.weight": torch.zeros(1)}}, weights)
    else:
        torch.save({"params": _RunsCode(str(workspace / "ran"))}, weights)
    option_file(workspace, "HAN", name="misfit", path={"pretrain_network_g": "weights.pth"})
    done = basicsr_command(workspace, "train", "-opt", "HAN.yml")
    assert done.returncode == 2
    assert "weights.pth" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (workspace / "ran").exists()


class _RunsCode:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


def test_launcher_without_its_environment(workspace: Path) -> None:
    option_file(workspace, "HAN", name="tiny_alone")
    done = basicsr_command(workspace, "train", "-opt", "HAN.yml", "--launcher", "pytorch")
    assert done.returncode == 2
    assert "torchrun --nproc_per_node" in done.stderr


def test_doctor(tmp_path: Path) -> None:
    done = basicsr_command(tmp_path, "doctor", installed=True)
    assert done.returncode == 0, done.stdout
    for wanted in ("torch 2", "1.4.2 from", "model: HANModel", "functional_tensor", "all required parts work"):
        assert wanted in done.stdout
    broken = subprocess.run(
        [sys.executable, "-c",
         "import sys; sys.modules['cv2'] = None\nfrom han_arch.cli import main\nsys.exit(main(['doctor']))"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert broken.returncode == 1
    assert "BROKEN" in broken.stdout


def test_doctor_tries_winograd_s_convolutions(
    tmp_path: Path, winograd_compiler: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Winograd's convolutions are correct" in basicsr_command(tmp_path, "doctor").stdout
    monkeypatch.setenv("CC", "no-such-compiler")
    done = basicsr_command(tmp_path, "doctor")
    assert done.returncode == 0, "they are optional"
    (line,) = [line for line in done.stdout.splitlines() if "Winograd" in line]
    assert "(optional)" in line
    assert "no-such-compiler" in line


def test_help_and_mistyped_commands(tmp_path: Path) -> None:
    assert "basicsr train -opt" in basicsr_command(tmp_path, "train", "--help", installed=True).stdout
    done = basicsr_command(tmp_path, "trian")
    assert done.returncode == 2
    assert "invalid choice: 'trian'" in done.stderr
