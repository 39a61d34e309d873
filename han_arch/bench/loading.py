"""Measurements for `basicsr data bench`: the speed of data loading, training steps and imresize."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from han_arch import compat
from han_arch.data.imresize import imresize
from han_arch.errors import UserError
from han_arch.opt import read
from han_arch.opt.check import Problem, as_mapping, check_options, try_network
from han_arch.opt.normalise import RunRequest, normalise, without_added
from han_arch.training import start

IMRESIZE_SHAPE = (1356, 2040, 3)  # size of a DIV2K image
ROUNDS = 7
ROOTS = ("dataroot_gt", "dataroot_lq")
MEASURED = ("scale", "num_gpu", "manual_seed", "datasets:train", "network_g")  # the options that are used


def compare_imresize() -> list[tuple[int, float, float]]:
    """Time han_arch's imresize and BasicSR's imresize in turn on a 2040x1356 RGB image.

    Return (scale, our seconds, BasicSR's seconds) for the scales 2, 3 and 4. Each time is the shortest of ROUNDS calls.
    """
    compat.require_basicsr()
    from basicsr.utils.matlab_functions import imresize as basicsr_imresize

    image = np.random.default_rng(0).integers(0, 256, IMRESIZE_SHAPE, np.uint8)
    result = []
    for scale in (2, 3, 4):
        rounds = [[time_call(f, image, 1 / scale) for f in (imresize, basicsr_imresize)] for _ in range(ROUNDS)]
        ours, theirs = map(min, zip(*rounds, strict=True))
        result.append((scale, ours, theirs))
    return result


def time_call(function: Callable[..., object], *arguments: object) -> float:
    """Call the function once; return the seconds that the call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Rate:
    """Measured speed of a data loader."""

    what: str  # backend, folder and number of workers
    start: float  # seconds until the first batch
    per_second: float  # samples per second after the first batch

    def bottleneck(self, network: float) -> str:
        """Return a text that says whether this loader or the network (`network` samples per second) is slower."""
        slow, fast = ("loader", "network") if self.per_second < network else ("network", "loader")
        times = max(network, self.per_second) / min(network, self.per_second)
        return f"the {slow} is the bottleneck, {times:.1f} times slower than the {fast}"


def read_options(path: Path) -> dict[str, Any]:
    """Read a training option file, and check the options that the measurements need.

    Raises:
        UserError: `scale`, `datasets:train` or `network_g` is missing, or a value in them is wrong.
    """
    start.load_plugins()
    options, problems = normalise(read.read(path), RunRequest(is_train=True, root=Path.cwd()))
    train = as_mapping(as_mapping(options.get("datasets")).get("train"))
    network_g = as_mapping(options.get("network_g"))
    needed = {"scale": options.get("scale"), "datasets: train": train, "network_g": network_g}
    if wrong := [name for name, value in needed.items() if not value]:
        raise UserError(f"{path} is not a complete training option file; missing or wrong: {', '.join(wrong)}")
    problems += check_options(without_added(options), is_train=True)
    problems += [
        Problem(f"datasets:train:{side}", " must be a path") for side in ROOTS if not _is_text(train.get(side))
    ]
    faults = [str(problem) for problem in problems if not problem.warning and problem.where.startswith(MEASURED)]
    faults = faults or [str(problem) for problem in try_network(network_g)]
    if faults:
        raise UserError("\n  ".join([f"{path} cannot be measured:", *dict.fromkeys(faults)]))
    return options


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def loader_rates(options: dict[str, Any], seconds: float) -> Iterator[Rate]:
    """Measure how fast a training set loads; yield a Rate for its LMDBs, then a Rate for its folders.

    `options` come from `read_options`. Each measurement takes `seconds`. Missing LMDBs or folders are skipped.

    Raises:
        UserError: the training set exists neither as LMDB nor as folders.
    """
    from han_arch.data.loading import install

    install()
    train, variants = options["datasets"]["train"], []
    for backend, suffix in (("lmdb", ".lmdb"), ("disk", "")):
        roots = {side: str(train[side]).removesuffix(".lmdb") + suffix for side in ROOTS}
        if all(Path(root).is_dir() for root in roots.values()):
            variants.append(copy.deepcopy(train) | roots | {"io_backend": {"type": backend}, "prefetch_mode": None})
    if not variants:
        raise UserError(
            f"the training set {train['dataroot_gt']} exists neither as LMDB nor as folders; run basicsr data prepare"
        )
    for variant in variants:
        yield _loader_rate(variant, options.get("manual_seed") or 0, seconds)


def _loader_rate(train: dict[str, Any], seed: int, seconds: float) -> Rate:
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.data.data_sampler import EnlargedSampler

    dataset = build_dataset(train)
    batch = train["batch_size_per_gpu"]
    # The epoch is so long that it never ends, because a new epoch would start new workers.
    sampler = EnlargedSampler(dataset, 1, 0, ratio=1 + 10_000 * batch // len(dataset))
    loader = build_dataloader(dataset, train, num_gpu=0, sampler=sampler, seed=seed)
    begin = time.perf_counter()
    batches = iter(loader)
    next(batches)
    start = time.perf_counter() - begin
    what = f"{train['io_backend']['type']} ({train['dataroot_gt']}, {train['num_worker_per_gpu']} workers)"
    return Rate(what, start, batch * _per_second(batches, seconds))


def network_rate(options: dict[str, Any], seconds: float) -> tuple[str, float]:
    """Measure training steps (L1 loss, Adam) on random data; return the device and the samples per second."""
    compat.require_basicsr()
    import torch
    from basicsr.archs import build_network

    from han_arch.registration import register

    register()
    device = torch.device("cuda" if torch.cuda.is_available() and options.get("num_gpu") != 0 else "cpu")
    network = build_network(copy.deepcopy(options["network_g"])).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-8)
    train = options["datasets"]["train"]
    side, scale, batch = train["gt_size"], options["scale"], train["batch_size_per_gpu"]
    gt, lq = (torch.rand(batch, 3, size, size, device=device) for size in (side, side // scale))

    def train_steps() -> Iterator[None]:
        while True:
            optimizer.zero_grad()
            torch.nn.functional.l1_loss(network(lq), gt).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield

    steps = train_steps()
    next(steps)  # not measured: the first step allocates memory
    return str(device), batch * _per_second(steps, seconds)


def _per_second(items: Iterator[object], seconds: float) -> float:
    """Take items from the iterator for `seconds`, but at least one item; return the number of items per second."""
    begin, count = time.perf_counter(), 0
    for _ in items:
        count += 1
        if time.perf_counter() - begin > seconds:
            break
    return count / (time.perf_counter() - begin)
