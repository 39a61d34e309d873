"""The samples of a run: every pass is a permutation, any number of processes sees the same batches."""

import random

import numpy as np
import pytest
import torch

from han_arch.training.sampling import RunSampler, SeededSamples


def test_each_pass_is_another_permutation() -> None:
    indices = [index for index, _ in RunSampler(7, 0, 21, seed=3)]
    passes = [indices[0:7], indices[7:14], indices[14:21]]
    assert all(sorted(one) == list(range(7)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert [index for index, _ in RunSampler(7, 0, 21, seed=4)] != indices


def test_seeds_differ_by_sample_and_run() -> None:
    seeds = [seed for _, seed in RunSampler(5, 0, 500, seed=3)]
    assert len(set(seeds)) == 500
    assert not set(seeds) & {seed for _, seed in RunSampler(5, 0, 500, seed=4)}


def test_resumed_run_goes_on_in_the_middle_of_a_pass() -> None:
    whole = list(RunSampler(7, 0, 40, seed=1))
    assert list(RunSampler(7, 16, 40, seed=1)) == whole[16:]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_share_the_batches_of_one_process(world_size: int) -> None:
    batch, iterations = 12, 5
    alone = list(RunSampler(10, 0, batch * iterations, seed=1))
    ranks = [list(RunSampler(10, 0, batch * iterations, 1, rank, world_size)) for rank in range(world_size)]
    assert all(len(keys) == len(RunSampler(10, 0, batch * iterations, 1, 0, world_size)) for keys in ranks)
    each = batch // world_size
    for i in range(iterations):
        together = [key for keys in ranks for key in keys[i * each : (i + 1) * each]]
        assert sorted(together) == sorted(alone[i * batch : (i + 1) * batch])


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
