"""Which training samples come when: decided by the seed and the position in the run alone.

BasicSR's sampler and workers decide by epoch and process, so that a run that was stopped cannot go on as if it had not
been, and runs on one and on several processes differ.
"""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

SampleKey = tuple[int, int]  # index in the dataset, seed of the sample's crop and flips


class RunSampler(Sampler[SampleKey]):
    """Keys of all samples of a run, one shuffled pass over the dataset after the other.

    Sample p of the run is the same on any number of processes: with global batches of B, iteration i consists of
    samples (i-1)*B to i*B-1, and each process takes every world_size-th of them.

    Args:
        size: samples in the dataset.
        start: first sample of this process group's run, a multiple of the global batch (more than 0 on resume).
        stop: first sample that is not wanted any more.
        seed: `manual_seed`.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, start: int, stop: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.start, self.stop, self.seed = size, start, stop, seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(0, self.stop - self.start - self.rank + self.world_size - 1) // self.world_size

    def __iter__(self) -> Iterator[SampleKey]:
        order: list[int] = []
        order_epoch = -1
        for position in range(self.start + self.rank, self.stop, self.world_size):
            epoch, place = divmod(position, self.size)
            if epoch != order_epoch:
                order = np.random.default_rng((self.seed, epoch)).permutation(self.size).tolist()
                order_epoch = epoch
            yield order[place], int(np.random.SeedSequence((self.seed, position)).generate_state(1)[0])


class SeededSamples(Dataset[Any]):
    """A BasicSR dataset read by the keys of RunSampler.

    BasicSR's datasets draw crops and flips from the global generators, which are seeded for each sample and put back
    after it.

    Args:
        dataset: a map-style dataset.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: SampleKey) -> Any:
        index, seed = key
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            return self.dataset[index]
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
