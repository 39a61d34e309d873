"""Data loaders. The images in a training batch depend only on the seed and the iteration.

So a resumed run, or a run with more processes, loads the same batches. With BasicSR's loaders, the batches differ.
"""

import logging
import math
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from han_arch.data import pairs
from han_arch.errors import UserError, one_line

SHARED_MEMORY = Path("/dev/shm")  # the folder through which Linux passes batches from data workers
MORE_SHARED_MEMORY = "lower num_worker_per_gpu, or start the Docker container with a larger --shm-size, such as 8g"
_NO_MEMORY = re.compile(r"allocate|out ?of ?memory|memoryerror", re.IGNORECASE)
SampleKey = tuple[int, int]  # index in the dataset, and seed for the random crop and flips of this sample


@dataclass(frozen=True)
class RunSampler(Sampler[SampleKey]):
    """Sampler that yields the dataset index and the random seed of each training sample of one process.

    Each pass over the dataset has a new random order, which depends only on the option `manual_seed`. The samples of
    the whole run are numbered from 0. Let B be the batch size over all processes. Iteration i trains on the samples
    (i-1)*B to i*B-1. Process r loads the samples r, r + world_size and so on. B may be larger than the dataset.
    """

    size: int  # number of samples in the dataset
    positions: range  # ascending numbers of the samples that this process loads
    seed: int  # the option manual_seed

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
    """Wrapper for a BasicSR dataset that takes the pairs (index, seed) of RunSampler.

    BasicSR's datasets draw crops and flips from the global random generators. The wrapper seeds these generators before
    it loads a sample, and then restores their states.
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
    """Return the training loader and a list with one loader per validation set.

    The training loader starts with the batch of iteration start_iter + 1.

    Raises:
        UserError: the training set is empty, or the batches of the data workers do not fit into shared memory.
    """
    from basicsr.data import build_dataloader, build_dataset

    train_loader, val_loaders = None, []
    settings = {"num_gpu": opt["num_gpu"], "dist": opt["dist"], "seed": opt["manual_seed"]}
    for phase, dataset_opt in opt["datasets"].items():
        dataset = build_dataset(dataset_opt)
        if phase == "train":
            sampler = _sampler(opt, len(dataset), start_iter, logger)
            train_loader = build_dataloader(SeededSamples(dataset), dataset_opt, sampler=sampler, **settings)
            train_loader.worker_init_fn = partial(_start_worker, train_loader.worker_init_fn)
            # Data sets of other packages may open files when they load a sample, which must not happen before a fork.
            if dataset_opt["type"] in pairs.SIDES:
                check_shared_memory(train_loader, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        else:
            val_loaders.append(build_dataloader(dataset, dataset_opt, **settings))
            logger.info(f"Validation images in {dataset_opt['name']}: {len(dataset)}")
    return train_loader, val_loaders


@contextmanager
def reading(loader: Any) -> Iterator[Iterator[Any]]:
    """Context that yields an iterator over a loader's batches, and stops the loader's worker processes at the end.

    This code uses private attributes of torch for two reasons. A loader with persistent workers keeps its iterator, so
    torch does not stop the workers. And torch stops a busy worker only with SIGTERM, which our workers ignore.

    Raises:
        UserError: a worker process was killed. The message names the most likely reason.
    """
    batches = iter(loader)
    try:
        yield batches
    except RuntimeError as error:  # torch reports a dead worker at any time, not only while it loads a batch
        if died := _death_of_worker(error):
            raise died from error
        raise
    finally:
        if hasattr(batches, "_shutdown_workers"):
            with suppress(RuntimeError):  # a worker died
                batches._shutdown_workers()
            for worker in batches._workers:
                if worker.is_alive():
                    worker.kill()


def next_batch(batches: Iterator[Any], current_iter: int) -> Any:
    """Return the next training batch.

    Raises:
        UserError: a sample cannot be loaded, or a worker process died.
    """
    try:
        try:
            return next(batches)
        except (OSError, EOFError):
            time.sleep(0.2)  # the connection to a worker ended: torch's signal handler raises the reason soon
            raise
    except Exception as error:  # data sets of other packages may raise any exception
        if died := _death_of_worker(error):
            raise died from error
        # Torch puts the traceback of a worker process into the text. Its last line is the error itself.
        lines = [line for line in str(error.args[0] if error.args else "").splitlines() if line.strip()]
        known = f"{type(error).__module__}.{type(error).__name__}: " if isinstance(error, UserError) else ""
        reason = lines[-1].removeprefix(known) if lines else type(error).__name__
        if isinstance(error, OSError):
            reason = one_line(error) if error.strerror else re.sub(r"^\w+: \[Errno \d+\] ", "", reason)
        remedy = "check the data set, for example with basicsr data verify"
        if not isinstance(error, (UserError, OSError)):  # a fault in the code of the data set
            remedy = f"{remedy}; the log file contains the traceback"
        if _NO_MEMORY.search(f"{type(error).__name__} {reason}"):
            remedy = "memory ran out: lower num_worker_per_gpu or batch_size_per_gpu, or raise the memory limit"
        raise UserError(
            f"the training data of iteration {current_iter} could not be loaded: {reason}; {remedy}"
        ) from error


def check_shared_memory(loader: Any, workers_here: int) -> None:
    """Raise UserError if the batches that data workers load in advance do not fit into /dev/shm.

    In Docker, /dev/shm has only 64 MB unless the option --shm-size is passed. A worker that fills it is killed.

    Args:
        loader: the training loader of `build_loaders`.
        workers_here: number of training processes on this machine; each has `loader.num_workers` data workers.
    """
    if not loader.num_workers or not SHARED_MEMORY.is_dir():
        return
    sample = loader.dataset[0, 0]
    values = sample.values() if isinstance(sample, dict) else sample
    a_sample = sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
    own = a_sample * loader.batch_size * loader.num_workers * loader.prefetch_factor
    space = shutil.disk_usage(SHARED_MEMORY)
    # Other processes of this run may already have filled their part, so compare the sum with the total size.
    if own > space.free or own * workers_here > space.total:
        need = f"num_worker_per_gpu {loader.num_workers} needs {own * workers_here / 2**20:,.1f} MiB of shared memory"
        raise UserError(f"{need}, but {SHARED_MEMORY} has {space.free / 2**20:,.1f} MiB free; {MORE_SHARED_MEMORY}")


def _death_of_worker(error: Exception) -> UserError | None:
    """Return the error for a data worker that was killed or had no shared memory; None for any other error."""
    # Torch names the signal in the error itself, or in the error that it was handling.
    text = " ".join(str(one) for one in (error, error.__cause__, error.__context__))
    signal_name = re.search(r"is killed by signal: (\w+(?: \w+)?)", text)
    if "(shm)" in text or "</torch_" in text or (signal_name and signal_name[1].startswith("Bus")):
        return UserError(f"a data worker had too little shared memory in {SHARED_MEMORY}; {MORE_SHARED_MEMORY}")
    if signal_name or "exited unexpectedly" in text:
        cause = "memory ran out (lower num_worker_per_gpu), or an LMDB is damaged (run basicsr data verify)"
        name = signal_name[1] if signal_name else "signal unknown"
        return UserError(f"a data worker died ({name}); most likely, {cause}, or {SHARED_MEMORY} is full (--shm-size)")
    return None


def _sampler(opt: dict[str, Any], size: int, start_iter: int, logger: logging.Logger) -> RunSampler:
    dataset_opt = opt["datasets"]["train"]
    if not size:
        raise UserError("the training set contains no images; check the paths in the option section datasets:train")
    # Without a launcher, one process loads the batches for all GPUs, as in BasicSR.
    gpus_per_process = 1 if opt["dist"] else max(1, opt["num_gpu"])
    batch = dataset_opt["batch_size_per_gpu"] * gpus_per_process * opt["world_size"]
    if dataset_opt.get("prefetch_mode"):
        remedy = "use pin_memory: true for faster copies to a GPU"
        logger.warning(f"prefetch_mode has no effect, because data workers load batches in advance anyway; {remedy}")
    total_iter = opt["train"]["total_iter"]
    epochs = math.ceil(total_iter * batch / size)
    logger.info(f"Training images: {size}; batch size {batch}; {total_iter} iterations, that is {epochs} epochs")
    positions = range(start_iter * batch + opt["rank"], total_iter * batch, opt["world_size"])
    return RunSampler(size, positions, opt["manual_seed"])


def _start_worker(start: Callable[[int], None], worker_id: int) -> None:
    # Ctrl-C and a scheduler's SIGTERM reach all processes, but the main process still needs its data workers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    start(worker_id)
