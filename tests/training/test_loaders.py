"""Training samples: each pass over the data set is a permutation; batches do not depend on the process count."""

import random
import re

import numpy as np
import pytest
import torch
from runs import run

from han_arch.training.loaders import RunSampler, SeededSamples


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
