"""The loaders of a run: BasicSR's data sets and loaders, read in the order that the run's position decides."""

import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from han_arch.errors import UserError
from han_arch.training.sampling import RunSampler, SeededSamples


def build_loaders(opt: dict[str, Any], start_iter: int, logger: logging.Logger) -> tuple[Any, list[Any]]:
    """The training loader, which gives the batches of all iterations after start_iter, and the validation loaders.

    Raises:
        UserError: the training set is smaller than one batch.
    """
    train_loader, val_loaders = None, []
    for phase, dataset_opt in opt["datasets"].items():
        if phase == "train":
            train_loader = _train_loader(opt, dataset_opt, start_iter, logger)
        else:
            val_loaders.append(_val_loader(opt, dataset_opt))
            logger.info(f"Validation images in {dataset_opt['name']}: {len(val_loaders[-1].dataset)}")
    return train_loader, val_loaders


def _train_loader(opt: dict[str, Any], dataset_opt: dict[str, Any], start_iter: int, logger: logging.Logger) -> Any:
    from basicsr.data import build_dataloader, build_dataset

    dataset = build_dataset(dataset_opt)
    # BasicSR: without a launcher one process feeds all GPUs.
    loaders_per_process = 1 if opt["dist"] else max(1, opt["num_gpu"])
    batch = dataset_opt["batch_size_per_gpu"] * loaders_per_process * opt["world_size"]
    size = len(dataset) * dataset_opt.get("dataset_enlarge_ratio", 1)
    if size < batch:
        raise UserError(
            f"datasets:train has {size} samples an epoch, fewer than one batch of {batch}; "
            f"lower batch_size_per_gpu ({dataset_opt['batch_size_per_gpu']}) or raise dataset_enlarge_ratio"
        )
    if dataset_opt.get("prefetch_mode"):
        logger.warning("prefetch_mode has no effect here: data workers fetch ahead, pin_memory speeds up the copy")
    total_iter = int(opt["train"]["total_iter"])
    epochs = math.ceil(total_iter * batch / len(dataset))
    logger.info(f"Training images: {len(dataset)}; batch {batch}; {total_iter} iterations, that is {epochs} epochs")
    sampler = RunSampler(
        len(dataset), start_iter * batch, total_iter * batch, opt["manual_seed"], opt["rank"], opt["world_size"]
    )
    loader = build_dataloader(
        SeededSamples(dataset),
        dataset_opt,
        num_gpu=opt["num_gpu"],
        dist=opt["dist"],
        sampler=sampler,
        seed=opt["manual_seed"],
    )
    loader.worker_init_fn = partial(_start_worker, loader.worker_init_fn)
    return loader


@contextmanager
def reading(loader: Any) -> Iterator[Iterator[Any]]:
    """The batches of a loader; its workers are stopped at the end, which signals no longer do (see `_start_worker`)."""
    batches = iter(loader)
    try:
        yield batches
    finally:
        if hasattr(batches, "_shutdown_workers"):
            batches._shutdown_workers()
            for worker in batches._workers:
                if worker.is_alive():
                    worker.kill()


def _start_worker(start: Callable[[int], None] | None, worker_id: int) -> None:
    """BasicSR's start of a worker; signals are left to the main process, which still needs its workers to stop well.

    A shell's Ctrl-C and a scheduler's SIGTERM reach all processes of a job.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if start is not None:
        start(worker_id)


def _val_loader(opt: dict[str, Any], dataset_opt: dict[str, Any]) -> Any:
    from basicsr.data import build_dataloader, build_dataset

    return build_dataloader(
        build_dataset(dataset_opt), dataset_opt, num_gpu=opt["num_gpu"], dist=opt["dist"], seed=opt["manual_seed"]
    )
