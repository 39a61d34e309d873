"""Training samples: each pass over the data set is a permutation; batches do not depend on the process count."""

import collections
import faulthandler
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import make_folder, run

from han_arch.data.loading import SampleError
from han_arch.errors import UserError
from han_arch.training import loaders
from han_arch.training.loaders import RunSampler, SeededSamples, check_shared_memory, next_batch, reading


def test_each_pass_is_another_permutation() -> None:
    indices = [index for index, _ in RunSampler(7, range(21), seed=3)]
    passes = [indices[0:7], indices[7:14], indices[14:21]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [index for index, _ in RunSampler(7, range(21), seed=4)] != indices


def test_seeds_differ_by_sample_and_run() -> None:
    seeds = [seed for _, seed in RunSampler(5, range(500), seed=3)]
    assert len(set(seeds)) == 500
    assert not set(seeds) & {seed for _, seed in RunSampler(5, range(500), seed=4)}


def test_resumed_run_continues_in_the_middle_of_a_pass() -> None:
    whole = list(RunSampler(7, range(40), seed=1))
    assert list(RunSampler(7, range(16, 40), seed=1)) == whole[16:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_the_batches_of_one_process(world_size: int) -> None:
    batch, iterations = 12, 5
    alone = list(RunSampler(10, range(batch * iterations), seed=1))
    ranks = [list(RunSampler(10, range(rank, batch * iterations, world_size), seed=1)) for rank in range(world_size)]
    each = batch // world_size
    assert [len(keys) for keys in ranks] == [each * iterations] * world_size
    for i in range(iterations):
        together = [key for keys in ranks for key in keys[i * each : (i + 1) * each]]
        assert sorted(together) == sorted(alone[i * batch : (i + 1) * batch])


@pytest.mark.usefixtures("basicsr")
def test_set_smaller_than_a_batch_trains(make_run) -> None:
    """With 5 images and a batch of 7, a batch contains some images twice; each pass over the set is complete."""
    folder = make_run("small")
    changes = ("datasets:train:batch_size_per_gpu=7", "datasets:train:dataset_enlarge_ratio=2", "train:total_iter=2")
    code, text = run(folder, "--force_yml", *changes)
    assert code == 0, text
    assert len(re.findall(r"dataset_enlarge_ratio has no effect", text)) == 1
    assert "Training images: 5; batch size 7; 2 iterations, that is 3 epochs" in text
    keys = [index for index, _ in RunSampler(5, range(14), seed=0)]
    assert sorted(keys[:5]) == sorted(keys[5:10]) == list(range(5))
    assert len(torch.load(folder / "experiments/run/models/net_g_2.pth", weights_only=True)["params"])


def test_samples_depend_on_their_key_alone() -> None:
    class Draws(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple:
            return index, random.random(), np.random.random(), torch.rand(()).item()

    samples = SeededSamples(Draws())
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected_next = random.random(), np.random.random(), torch.rand(()).item()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    first = samples[1, 77]
    assert (random.random(), np.random.random(), torch.rand(()).item()) == expected_next
    assert samples[1, 77] == first
    assert samples[1, 78] != first
    assert len(samples) == 3


class Samples(torch.utils.data.Dataset):
    """Samples of 1 MB. The worker that loads one calls `before` first."""

    def __init__(self, before=lambda: None) -> None:
        self.before = before

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: object) -> dict:
        self.before()
        return {"lq": torch.zeros(2**18), "lq_path": "0.png"}


def kill_by(number: signal.Signals):
    def die() -> None:
        faulthandler.disable()  # it would print the stack of this wanted death
        os.kill(os.getpid(), number)

    return die


def no_memory() -> None:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


def memory_limit() -> None:
    raise OSError(12, "Cannot allocate memory")


def bad_sample() -> None:
    raise SampleError("gt/0.png: damaged")


DEATHS = [
    (kill_by(signal.SIGBUS), ["/dev/shm", "num_worker_per_gpu", "--shm-size"]),
    (no_memory, ["/dev/shm", "num_worker_per_gpu", "--shm-size"]),
    (kill_by(signal.SIGKILL), ["data worker died", "memory", "num_worker_per_gpu"]),
    (kill_by(signal.SIGABRT), ["data worker died", "basicsr data verify"]),
    (bad_sample, ["iteration 5", "gt/0.png: damaged", "basicsr data verify"]),
    (memory_limit, ["iteration 5", "Cannot allocate memory", "num_worker_per_gpu"]),
]


@pytest.mark.parametrize(("before", "parts"), DEATHS, ids=["bus", "shm", "killed", "aborted", "sample", "memory"])
def test_the_death_of_a_data_worker_is_one_line(before, parts: list[str]) -> None:
    loader = torch.utils.data.DataLoader(Samples(before), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(UserError) as caught, reading(loader) as batches:
        next_batch(batches, 5)
    assert "\n" not in str(caught.value)
    assert "Error:" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


Space = collections.namedtuple("Space", "total used free")


@pytest.mark.parametrize(
    ("total", "free", "processes", "fits"),
    [(64, 64, 1, True), (64, 31, 1, False), (64, 33, 2, True), (63, 63, 2, False), (8, 8, 1, False)],
)
def test_shared_memory_is_checked_before_the_run(monkeypatch, tmp_path, total, free, processes, fits) -> None:
    """2 workers load 2 batches of 8 samples of 1 MiB in advance: 32 MiB for each process."""
    monkeypatch.setattr(loaders, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Space(total * 2**20, 0, free * 2**20))
    loader = torch.utils.data.DataLoader(Samples(), batch_size=8, num_workers=2)
    check_shared_memory(torch.utils.data.DataLoader(Samples(), batch_size=8), processes)  # no workers
    if fits:
        check_shared_memory(loader, processes)
        return
    with pytest.raises(UserError) as caught:
        check_shared_memory(loader, processes)
    for part in ("num_worker_per_gpu 2", f"{32 * processes}.0 MiB", f"{free}.0 MiB", "--shm-size"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("basicsr")
def test_data_sets_of_other_packages_load_samples_only_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may open a file when they load the first sample, and processes that share an open file read wrong data."""
    import basicsr.data

    def in_worker() -> None:
        assert torch.utils.data.get_worker_info() is not None

    monkeypatch.setattr(basicsr.data, "build_dataset", lambda options: Samples(in_worker))
    dataset = {"type": "Other", "phase": "train", "batch_size_per_gpu": 1, "num_worker_per_gpu": 1}
    opt = {"num_gpu": 1, "dist": False, "manual_seed": 0, "rank": 0, "world_size": 1, "train": {"total_iter": 8}}
    loader, _ = loaders.build_loaders({**opt, "datasets": {"train": dataset}}, 0, logging.getLogger("test"))
    with reading(loader) as batches:
        assert next_batch(batches, 1)["lq"].shape == (1, 2**18)


@pytest.mark.slow
@pytest.mark.usefixtures("basicsr")
def test_a_small_shared_memory_stops_a_real_run(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small /dev/shm")
    folder = make_folder(tmp_path / "run", workers=2)
    command = f"mount -t tmpfs -o size=16k tmpfs /dev/shm && exec {sys.executable} -m han_arch train -opt run.yml"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], cwd=folder, capture_output=True, text=True)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"cannot mount a small /dev/shm: {done.stderr}")
    assert done.returncode == 2, done.stderr
    assert "num_worker_per_gpu 2" in done.stderr
    assert "--shm-size" in done.stderr
    assert "Traceback" not in done.stderr
