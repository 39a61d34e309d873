"""basicsr data bench: it measures the LMDB, the folders and the network, and prints the bottleneck."""

import pytest
import yaml

from han_arch.bench import loading
from han_arch.cli import main
from han_arch.commands import data
from han_arch.data.stores import close_lmdbs


@pytest.fixture
def option_file(prepared_template, tmp_path):
    options = {
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {
            "train": {
                "name": "pictures",
                "type": "PairedImageDataset",
                "dataroot_gt": f"{prepared_template}/GT_sub_x2.lmdb",
                "dataroot_lq": f"{prepared_template}/LR_sub_BIx2.lmdb",
                "io_backend": {"type": "lmdb"},
                "gt_size": 16,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 2,
            }
        },
        "network_g": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "upscale": 2},
    }
    path = tmp_path / "train.yml"
    path.write_text(yaml.safe_dump(options))
    yield path
    close_lmdbs()


def test_disk_lmdb_and_network_are_measured(basicsr, option_file, capsys):
    assert main(["data", "bench", "-opt", str(option_file), "--seconds", "0.1"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "samples/s loaded from lmdb",
        "samples/s loaded from disk",
        "EDSR trains on cpu",
        "is the bottleneck",
    ):
        assert words in printed


def test_the_slower_one_is_the_bottleneck(basicsr, option_file, capsys, monkeypatch):
    rates = [loading.Rate("lmdb (x)", 0.1, 50.0), loading.Rate("disk (x)", 0.1, 500.0)]
    monkeypatch.setattr(data, "loader_rates", lambda options, seconds: iter(rates))
    monkeypatch.setattr(data, "network_rate", lambda options, seconds: ("cpu", 100.0))
    assert main(["data", "bench", "-opt", str(option_file)]) == 0
    printed = capsys.readouterr().out
    assert "lmdb: the loader is the bottleneck, 2.0 times slower than the network" in printed
    assert "disk: the network is the bottleneck, 5.0 times slower than the loader" in printed


@pytest.mark.parametrize(("theirs", "status"), [(0.0, 1), (1.0, 0)])
def test_imresize_status_says_whether_ours_is_slower(basicsr, monkeypatch, theirs, status):
    monkeypatch.setattr(loading, "IMRESIZE_SHAPE", (16, 16, 3))
    monkeypatch.setattr(
        loading, "time_call", lambda function, *_: theirs if function.__module__.startswith("basicsr") else 0.5
    )
    assert main(["data", "bench", "--imresize"]) == status


@pytest.mark.slow
def test_imresize_is_no_slower_than_basicsr(basicsr):
    for scale, ours, theirs in loading.compare_imresize():
        assert ours <= theirs, (scale, ours, theirs)


def test_mistakes_are_one_line(basicsr, option_file, tmp_path, capsys):
    assert main(["data", "bench"]) == 2
    other = tmp_path / "other.yml"
    other.write_text("scale: 2\n")
    assert main(["data", "bench", "-opt", str(other)]) == 2
    other.write_text(option_file.read_text().replace("GT_sub_x2", "GT_gone_x2"))
    assert main(["data", "bench", "-opt", str(other)]) == 2
    assert "run basicsr data prepare" in capsys.readouterr().err
