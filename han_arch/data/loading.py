"""Repair the parts of BasicSR's data loading that fail with current packages.

`install()` tests each part and replaces only the broken ones. The replacements have BasicSR's names, so option files
stay the same.
"""

import functools
import pickle
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
from torch.utils.data import Dataset

from han_arch import compat
from han_arch.data.stores import LmdbFault, lmdb_value
from han_arch.errors import UserError
from han_arch.images.picture import ImageError
from han_arch.images.read import decode_image
from han_arch.images.write import encode_png

# Call this at import, because a spawned worker imports this module before it unpickles BasicSR's classes.
compat.install_import_fallbacks()


class SampleError(UserError):
    """A training or validation image cannot be used; the message names its file, or its LMDB and key."""


class SharedLmdbBackend:
    """LMDB backend for BasicSR that opens each LMDB only once in a process and can be pickled.

    It ignores the arguments `readonly`, `lock` and `readahead`: LMDBs are always read-only, without lock and readahead.

    Args:
        client_keys: names by which the dataset selects an LMDB, such as "lq" and "gt"; one name for each path.

    Raises:
        ValueError: `client_keys` and `db_paths` have different lengths.
    """

    def __init__(
        self,
        db_paths: str | Sequence[str],
        client_keys: str | Sequence[str] = "default",
        readonly: bool = True,
        lock: bool = False,
        readahead: bool = False,
    ) -> None:
        folders = [db_paths] if isinstance(db_paths, str) else db_paths
        keys = [client_keys] if isinstance(client_keys, str) else client_keys
        if len(folders) != len(keys):
            got = f"{len(keys)}: {', '.join(keys)}"
            raise ValueError(f"{len(folders)} LMDBs need {len(folders)} client keys; got {got}")
        self.folders = {key: Path(folder) for key, folder in zip(keys, folders, strict=True)}

    def get(self, filepath: str, client_key: str) -> bytes:
        """Return the bytes at key `filepath` in the LMDB named `client_key`; raise LmdbFault if this fails."""
        return lmdb_value(self.folders[client_key], str(filepath))

    def get_text(self, filepath: str) -> str:
        """Raise NotImplementedError, because these LMDBs contain only images."""
        raise NotImplementedError("text cannot be read from an LMDB of images")


class CheckedPairedImageDataset(Dataset[dict[str, Any]]):
    """BasicSR's PairedImageDataset with the same options and items, but with clear errors about damaged images.

    This class also sorts the pairs by GT path, and leaves the option dict unchanged.

    Raises:
        SampleError: the GT folder contains no image.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        from basicsr.data.paired_image_dataset import PairedImageDataset
        from basicsr.utils import FileClient

        self.inner = PairedImageDataset(opt)
        self.opt, self.paths = opt, self.inner.paths
        self.paths.sort(key=lambda pair: pair["gt_path"])
        if not self.paths:
            raise SampleError(f"{self.inner.gt_folder} contains no image; images in sub-folders are not used")
        # Create the client here, because BasicSR would remove `type` from the options when it reads the first image.
        backend = dict(self.inner.io_backend_opt)
        self.inner.file_client = FileClient(backend.pop("type"), **backend)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the same item as BasicSR; raise SampleError or LmdbFault if an image of the pair cannot be used."""
        try:
            return self.inner[index]
        except LmdbFault:
            raise
        except Exception as error:
            raise SampleError(self._explain(self.paths[index], error)) from error

    def _explain(self, pair: dict[str, str], error: Exception) -> str:
        shapes, client = [], self.inner.file_client
        for side, folder in (("gt", self.inner.gt_folder), ("lq", self.inner.lq_folder)):
            name = pair[f"{side}_path"]
            where = f"{folder}: {name}" if client.backend == "lmdb" else name
            try:
                shapes.append(decode_image(client.get(name, side)).shape)
            except (ImageError, OSError) as fault:
                return f"{where}: {fault}"
        return f"LR image {where} has shape {shapes[1]} and GT image {pair['gt_path']} has {shapes[0]}: {error}"


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed `random` and NumPy in a data worker from torch's seed, which differs for each worker, rank and epoch.

    BasicSR's function has the same arguments, but gives a worker the same seed in every epoch.
    """
    install()  # a spawned worker imports BasicSR without the repairs
    drawn = torch.initial_seed()  # the epoch's random base seed from the main process + the worker's number
    random.seed(drawn)
    np.random.seed(drawn % 2**32)


@functools.cache
def install() -> None:
    """Repair the broken parts of BasicSR's data loading in this process; raise UserError if BasicSR is missing."""
    compat.require_basicsr()
    from basicsr.utils.file_client import FileClient
    from basicsr.utils.registry import DATASET_REGISTRY

    if not is_lmdb_shared():
        backends = {**FileClient._backends, "lmdb": SharedLmdbBackend}
        why = "BasicSR's LMDB backend cannot be pickled, and it opens an LMDB twice, which lmdb 3 does not allow"
        compat.replace("basicsr.utils.file_client", "FileClient._backends", backends, why)
    if not is_seed_new_each_epoch():
        why = "BasicSR's data workers draw the same crops in every epoch"
        compat.replace("basicsr.data", "worker_init_fn", worker_init_fn, why)
    if not is_bad_file_named():
        datasets = {**DATASET_REGISTRY._obj_map, "PairedImageDataset": CheckedPairedImageDataset}
        why = "BasicSR's PairedImageDataset reads folders in no fixed order; its errors do not name the damaged file"
        compat.replace("basicsr.utils.registry", "DATASET_REGISTRY._obj_map", datasets, why)


def is_lmdb_shared() -> bool:
    """Test whether BasicSR's LMDB backend can be pickled and can open the same LMDB twice in a process."""
    from basicsr.utils.file_client import FileClient

    with tempfile.TemporaryDirectory() as folder:
        with lmdb.open(folder) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        try:
            # BasicSR's backend keeps its LMDB open as long as the object exists, so keep both objects.
            clients = [FileClient("lmdb", db_paths=folder) for _ in range(2)]
            values = [client.get("key", "default") for client in (*clients, pickle.loads(pickle.dumps(clients[0])))]
        except (lmdb.Error, TypeError):
            return False
        return values == [b"value"] * 3


def is_seed_new_each_epoch() -> bool:
    """Test whether BasicSR gives a data worker different seeds in two epochs."""
    import basicsr.data

    states = random.getstate(), np.random.get_state()
    draws = []
    with torch.random.fork_rng(devices=[]):
        for epoch_seed in (1, 2):
            torch.manual_seed(epoch_seed)
            basicsr.data.worker_init_fn(0, num_workers=2, rank=0, seed=0)
            draws.append((random.random(), np.random.random()))
    random.setstate(states[0])
    np.random.set_state(states[1])
    return draws[0] != draws[1]


def is_bad_file_named() -> bool:
    """Test whether the registered PairedImageDataset reports the file name of a damaged image."""
    from basicsr.utils.registry import DATASET_REGISTRY

    with tempfile.TemporaryDirectory() as folder:
        good = encode_png(np.zeros((8, 8), np.uint8))
        for side, data in (("gt", good), ("lq", b"not an image")):
            (Path(folder) / side).mkdir()
            (Path(folder) / side / "probe.png").write_bytes(data)
        options = {"dataroot_gt": f"{folder}/gt", "dataroot_lq": f"{folder}/lq", "io_backend": {"type": "disk"}}
        dataset = DATASET_REGISTRY.get("PairedImageDataset")(options | {"phase": "val", "scale": 1})
        try:
            dataset[0]
        except Exception as error:
            return f"{folder}/lq/probe.png" in str(error)
        return False
