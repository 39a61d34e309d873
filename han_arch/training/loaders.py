"""Data loaders. The images in a training batch depend only on the seed and the iteration.

With BasicSR's sampler and workers, they also depend on the epoch and the process. A stopped run could then not resume
exactly, and a run on several processes would train on other batches than a run on one process.
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

SampleKey = tuple[int, int]  # index in the dataset, and seed for the random crop and flips of this sample


@dataclass(frozen=True)
class RunSampler(Sampler[SampleKey]):
    """Iterate over the keys (SampleKey) of one process's training samples.

    The run passes over the dataset again and again, each time in a new random order. The seed alone decides this order.
    With B samples in a batch over all processes, iteration i uses the samples at positions (i-1)*B to i*B-1. Each
    process takes every world_size-th of them. The dataset may be smaller than B.

    Args:
        size: number of samples in the dataset.
        positions: positions of this process's samples in the order of the run, ascending.
        seed: the option `manual_seed`.
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
    """Wrap a map-style BasicSR dataset. Its index is a key of RunSampler: the sample's index and a seed.

    BasicSR's datasets draw crops and flips from the global random generators. This class seeds the generators for each
    sample, and restores their states afterwards.
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
    """Build the data loaders for training and validation.

    Args:
        opt: options of the run.
        start_iter: number of iterations that are already done.
        logger: the run's log.

    Returns:
        The training loader with the batches of the iterations after start_iter, and a list with one validation loader
        per validation set.

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
    """Context that yields an iterator over a loader's batches, and stops the loader's worker processes at the end.

    It uses private attributes of torch, for two reasons. Torch stops workers only when the iterator is deleted, and a
    loader with persistent workers keeps its iterator. Torch ends busy workers by SIGTERM, which our workers ignore.
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
        raise UserError("the data set datasets:train is empty; check the paths in this section of the option file")
    # Without a launcher, one process loads the batches for all GPUs, as in BasicSR.
    loaders_per_process = 1 if opt["dist"] else max(1, opt["num_gpu"])
    batch = dataset_opt["batch_size_per_gpu"] * loaders_per_process * opt["world_size"]
    if dataset_opt.get("prefetch_mode"):
        logger.warning(
            "prefetch_mode has no effect: workers load batches ahead anyway; pin_memory: true speeds up copies to a GPU"
        )
    total_iter = int(opt["train"]["total_iter"])
    epochs = math.ceil(total_iter * batch / size)
    logger.info(f"Training images: {size}; batch size {batch}; {total_iter} iterations, that is {epochs} epochs")
    positions = range(start_iter * batch + opt["rank"], total_iter * batch, opt["world_size"])
    return RunSampler(size, positions, opt["manual_seed"])


def _start_worker(start: Callable[[int], None], worker_id: int) -> None:
    """Start a data worker as BasicSR does, but make it ignore SIGINT and SIGTERM.

    A shell's Ctrl-C and a scheduler's SIGTERM reach all processes of a job. The main process still needs its workers
    to finish the current iteration.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    start(worker_id)
