"""Tests of the shipped option files: each equals the output of its template, and contains the values of its recipe."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from han_arch.errors import UserError
from han_arch.opt import read

FOLDER = Path(__file__).resolve().parent.parent.parent / "options"
NAMES = sorted(path.name for path in FOLDER.glob("*.yml"))
EXPECTED = {
    *(f"{kind}_HAN_{scale}.yml" for kind in ("train", "test") for scale in ("x2", "x3", "x4", "x8", "BDx3")),
    "train_EDSR_x4.yml", "train_RCAN_x4.yml", "demo_HAN_x4.yml", "demo_test_HAN_x4.yml",
    *(f"leaderboard_{scale}.yml" for scale in ("x2", "x3", "x4", "x8", "BDx3")),
}  # fmt: skip


def upstream_load(path: Path, basicsr: ModuleType) -> dict:
    """Read an option file with BasicSR's own loader."""
    import yaml
    from basicsr.utils.options import ordered_yaml

    with path.open() as file:
        return yaml.load(file, Loader=ordered_yaml()[0])


def test_the_promised_files_are_there() -> None:
    assert set(NAMES) >= EXPECTED
    assert list(read.shipped_files()) == NAMES


def test_no_drift(repository: Path, tmp_path: Path) -> None:
    script = repository / "scripts" / "make_options.py"

    def check(folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), "--check", "--folder", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
        )

    done = check(FOLDER)
    assert done.returncode == 0, done.stdout
    for path in FOLDER.glob("*.yml"):
        (tmp_path / path.name).write_text(path.read_text().replace("l1", "l2"))
    changed = tmp_path / "train_HAN_x4.yml"
    changed.write_text(changed.read_text() + "\n")
    (tmp_path / "schema.json").write_text("{}")
    done = check(tmp_path)
    assert done.returncode == 1
    assert {"schema.json", "train_HAN_x4.yml"} <= {line.partition(":")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", NAMES)
def test_upstream_reads_the_same(name: str, basicsr: ModuleType) -> None:
    assert upstream_load(FOLDER / name, basicsr) == read.read(FOLDER / name)


@pytest.mark.parametrize("name", read.run_names())
def test_scale_is_one_number_everywhere(name: str) -> None:
    opt = read.read(FOLDER / name)
    scale = opt["scale"]
    assert opt["network_g"]["upscale"] == scale
    for metric in opt["val"]["metrics"].values():
        assert (metric["crop_border"], metric["test_y_channel"]) == (scale, True)
    for dataset in opt["datasets"].values():
        assert f"x{scale}" in Path(dataset["dataroot_gt"]).name
        assert f"x{scale}" in Path(dataset["dataroot_lq"]).name
    if "train" in opt:
        assert opt["datasets"]["train"]["gt_size"] % scale == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("train_HAN_")])
def test_training_files_follow_the_paper(name: str) -> None:
    opt = read.read(FOLDER / name)
    train, data, net = opt["train"], opt["datasets"]["train"], opt["network_g"]
    assert (net["num_group"], net["num_block"], net["num_feat"], net["squeeze_factor"]) == (10, 20, 64, 16)
    assert (data["batch_size_per_gpu"], data["gt_size"] // opt["scale"]) == (16, 48)
    assert data["use_hflip"]
    assert data["use_rot"]
    assert data["io_backend"] == {"type": "lmdb"}
    assert train["pixel_opt"]["type"] == "L1Loss"
    assert (train["optim_g"]["type"], train["optim_g"]["lr"], train["optim_g"]["betas"]) == ("Adam", 1e-4, [0.9, 0.99])
    assert (train["scheduler"]["milestones"], train["scheduler"]["gamma"]) == ([200000], 0.5)
    assert train["total_iter"] == 400000
    assert opt["datasets"]["val"]["name"] == "Set5"


def test_comparison_networks_have_the_papers_sizes() -> None:
    edsr = read.read(FOLDER / "train_EDSR_x4.yml")["network_g"]
    assert (edsr["num_block"], edsr["num_feat"], edsr["res_scale"]) == (32, 256, 0.1)
    rcan = read.read(FOLDER / "train_RCAN_x4.yml")["network_g"]
    assert (rcan["num_group"], rcan["num_block"], rcan["num_feat"]) == (10, 20, 64)


def test_find_takes_paths_and_shipped_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("train_HAN_x4", "train_HAN_x4.yml", "options/train_HAN_x4.yml"):
        assert read.find(name) == FOLDER / "train_HAN_x4.yml"
    (tmp_path / "train_HAN_x4.yml").write_text("name: mine\n")
    assert read.find("train_HAN_x4.yml") == Path("train_HAN_x4.yml")
    with pytest.raises(UserError, match="did you mean train_HAN_x4"):
        read.find("train_HAM_x4.yml")
    with pytest.raises(UserError, match="no shipped option file has this name"):
        read.find("elsewhere/train_HAN_x4.yml")
