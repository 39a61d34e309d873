"""The loaders of a run. The seed and the position in the run alone decide which samples come when.

BasicSR's sampler and workers decide by epoch and process. A stopped run could not resume exactly then, and runs on one
and on several processes would differ.
"""

import logging
import math
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from han_arch.errors import UserError

SampleKey = tuple[int, int]  # index in the dataset, seed of the sample's crop and flips


@dataclass(frozen=True)
class RunSampler(Sampler[SampleKey]):
    """Keys of the samples of a run: one shuffled pass over the dataset after the other.

    Sample p of the run is the same on any number of processes. With global batches of B, iteration i consists of the
    samples (i-1)*B to i*B-1, and each process takes every world_size-th of them. The dataset may be smaller than B.

    Args:
        size: number of samples in the dataset.
        positions: positions in the run that this process reads, in order.
        seed: `manual_seed`.
    """

    size: int
    positions: range
    seed: int

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[SampleKey]:
        current = -1
        for position in self.positions:
            epoch, place = divmod(position, self.size)
            if epoch != current:
                order = np.random.default_rng((self.seed, epoch)).permutation(self.size).tolist()
                current = epoch
            yield order[place], int(np.random.SeedSequence((self.seed, position)).generate_state(1)[0])


class SeededSamples(Dataset[Any]):
    """A map-style BasicSR dataset that is read by the keys of RunSampler.

    BasicSR's datasets draw crops and flips from the global generators. These are seeded for each sample, and restored
    after it.
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


def build_loaders(opt: dict[str, Any], start_iter: int, logger: logging.Logger) -> tuple[Any, list[Any]]:
    """Build the training loader, with the batches of all iterations after start_iter, and the validation loaders.

    Raises:
        UserError: the training set is empty.
    """
    from basicsr.data import build_dataloader, build_dataset

    train_loader, val_loaders = None, []
    settings = {"num_gpu": opt["num_gpu"], "dist": opt["dist"], "seed": opt["manual_seed"]}
    for phase, dataset_opt in opt["datasets"].items():
        dataset = build_dataset(dataset_opt)
        if phase == "train":
            sampler = _sampler(opt, dataset_opt, len(dataset), start_iter, logger)
            train_loader = build_dataloader(SeededSamples(dataset), dataset_opt, sampler=sampler, **settings)
            train_loader.worker_init_fn = partial(_start_worker, train_loader.worker_init_fn)
        else:
            val_loaders.append(build_dataloader(dataset, dataset_opt, **settings))
            logger.info(f"Validation images in {dataset_opt['name']}: {len(dataset)}")
    return train_loader, val_loaders


@contextmanager
def reading(loader: Any) -> Iterator[Iterator[Any]]:
    """Iterate over the batches of a loader; stop its workers at the end, by private names of torch.

    Torch stops them when the iterator is deleted, which a persistent loader never does. It ends a busy worker by
    SIGTERM, which these ignore.
    """
    batches = iter(loader)
    try:
        yield batches
    finally:
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
            for worker in batches._workers:
                if worker.is_alive():
                    worker.kill()


def _sampler(
    opt: dict[str, Any], dataset_opt: dict[str, Any], size: int, start_iter: int, logger: logging.Logger
) -> RunSampler:
    if not size:
        raise UserError("datasets:train has no samples")
    # Without a launcher, one BasicSR process feeds all GPUs.
    loaders_per_process = 1 if opt["dist"] else max(1, opt["num_gpu"])
    batch = dataset_opt["batch_size_per_gpu"] * loaders_per_process * opt["world_size"]
    if dataset_opt.get("prefetch_mode"):
        logger.warning("prefetch_mode has no effect: data workers fetch ahead, and pin_memory speeds up the copy")
    total_iter = int(opt["train"]["total_iter"])
    epochs = math.ceil(total_iter * batch / size)
    logger.info(f"Training images: {size}; batch {batch}; {total_iter} iterations, that is {epochs} epochs")
    positions = range(start_iter * batch + opt["rank"], total_iter * batch, opt["world_size"])
    return RunSampler(size, positions, opt["manual_seed"])


def _start_worker(start: Callable[[int], None], worker_id: int) -> None:
    """Start a worker as BasicSR does; it ignores SIGINT and SIGTERM.

    A shell's Ctrl-C and a scheduler's SIGTERM reach all processes of a job, and the main process needs its workers to
    finish the iteration.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    start(worker_id)
