"""Speed of loading from disk and LMDB, of training steps, and of imresize against BasicSR's."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from han_arch import compat
from han_arch.data.imresize import imresize
from han_arch.errors import UserError

IMRESIZE_SHAPE = (1356, 2040, 3)  # a DIV2K image
ROUNDS = 7


def compare_imresize() -> list[tuple[int, float, float]]:
    """Time our imresize and BasicSR's in turn on a 2040x1356 RGB image.

    Returns:
        For scales 2, 3 and 4: the scale, our seconds, BasicSR's seconds; each the best of ROUNDS.
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
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


@dataclass(frozen=True)
class Rate:
    """Speed of a loader: its source, seconds until the first batch, then samples per second."""

    what: str
    start: float
    per_second: float

    def bottleneck(self, network: float) -> str:
        """Name the slower of this loader and a network (samples per second), and how many times slower it is."""
        slow = "loader" if self.per_second < network else "network"
        times = max(network, self.per_second) / min(network, self.per_second)
        return f"the {slow} is the bottleneck, {times:.1f} times slower"


def read_options(path: Path) -> dict[str, Any]:
    """Read a training option file as plain mappings.

    Raises:
        UserError: it lacks what a benchmark needs.
    """
    try:
        options = yaml.safe_load(path.read_text("utf-8"))
        train, network = options["datasets"]["train"], options["network_g"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path} has no datasets: train: or network_g: of a training option file ({error})") from None
    train |= {"phase": "train", "scale": options["scale"]}
    if not isinstance(network, dict):
        raise UserError(f"{path}: network_g must be a mapping")
    return options


def loader_rates(options: dict[str, Any], seconds: float) -> Iterator[Rate]:
    """Measure the training set as LMDB and as folders, if they exist, with the settings of the option file.

    Args:
        options: from `read_options`.
        seconds: time for each.

    Raises:
        UserError: neither exists.
    """
    from han_arch.data.loading import install

    install()
    train, found = options["datasets"]["train"], False
    for backend, suffix in (("lmdb", ".lmdb"), ("disk", "")):
        roots = {side: str(train[side]).removesuffix(".lmdb") + suffix for side in ("dataroot_gt", "dataroot_lq")}
        if all(Path(root).is_dir() for root in roots.values()):
            found = True
            variant = copy.deepcopy(train) | roots | {"io_backend": {"type": backend}}
            yield _loader_rate(variant, options.get("manual_seed") or 0, seconds)
    if not found:
        raise UserError(f"found neither LMDB nor folders for {train['dataroot_gt']}; run basicsr data prepare")


def _loader_rate(train: dict[str, Any], seed: int, seconds: float) -> Rate:
    from basicsr.data import build_dataloader, build_dataset
    from basicsr.data.data_sampler import EnlargedSampler

    dataset = build_dataset(train)
    batch = train["batch_size_per_gpu"]
    # So many samples that the loader never ends, as a new epoch would start new workers.
    sampler = EnlargedSampler(dataset, 1, 0, ratio=1 + 10_000 * batch // len(dataset))
    train["prefetch_mode"] = None
    loader = build_dataloader(dataset, train, num_gpu=0, sampler=sampler, seed=seed)
    begin = time.perf_counter()
    batches = iter(loader)
    next(batches)
    first = time.perf_counter()
    count = 0
    for _ in batches:
        count += 1
        if time.perf_counter() - first > seconds:
            break
    rate = count * batch / (time.perf_counter() - first)
    what = f"{train['io_backend']['type']} ({train['dataroot_gt']}, {train['num_worker_per_gpu']} workers)"
    return Rate(what, first - begin, rate)


def network_rate(options: dict[str, Any], seconds: float) -> tuple[str, float]:
    """Measure training steps of the network in the option file, with L1 loss and Adam, on random samples.

    Returns:
        The device, and samples per second.
    """
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
    lq = torch.rand(batch, 3, side // scale, side // scale, device=device)
    gt = torch.rand(batch, 3, side, side, device=device)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.l1_loss(network(lq), gt).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()  # the first step allocates memory
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        step()
        count += 1
    return str(device), count * batch / (time.perf_counter() - begin)
