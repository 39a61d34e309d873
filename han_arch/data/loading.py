"""What BasicSR's data loading needs on today's stack, put in place by `install()`; each fault is probed first.

Option files keep BasicSR's names (`type: PairedImageDataset`, `io_backend: type: lmdb`).
"""

import pickle
import random
import tempfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import lmdb
import numpy as np
import torch

from han_arch import compat
from han_arch.data.lmdb_check import SampleError
from han_arch.data.lmdb_store import lmdb_keys
from han_arch.data.shared_lmdb import shared_environment

_done: list[bool] = []


class SharedLmdbBackend:
    """BasicSR's LMDB backend on environments that a whole process shares, and that pickles.

    Args:
        db_paths: LMDB folders.
        client_keys: what the dataset calls them, such as "lq" and "gt"; one for each folder.
        readonly, lock, readahead: as in BasicSR, which gives them; an environment here is always opened read-only,
            without lock and readahead.

    Raises:
        ValueError: not as many keys as folders.
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
            raise ValueError(f"{len(folders)} LMDBs need as many client keys; got {', '.join(keys)}")
        self.folders = {key: Path(folder) for key, folder in zip(keys, folders, strict=True)}

    def get(self, filepath: str, client_key: str) -> bytes:
        """The bytes of a key of one LMDB; SampleError when it is not there, LmdbFault when the LMDB is not whole."""
        folder = self.folders[client_key]
        environment = shared_environment(folder)
        try:
            with environment.begin() as transaction:
                data = transaction.get(str(filepath).encode())
        except lmdb.Error as error:
            raise SampleError(f"{folder}: key {filepath} cannot be read, data.mdb is damaged: {error}") from error
        if data is None:
            near = get_close_matches(str(filepath), lmdb_keys(environment), 1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise SampleError(f"no key {filepath} in {folder}, though its meta_info.txt names it{hint}")
        return bytes(data)

    def get_text(self, filepath: str) -> str:
        """LMDBs hold images only."""
        raise NotImplementedError("an LMDB of images has no text")


def worker_init_fn(worker_id: int, num_workers: int, rank: int, seed: int) -> None:
    """Seed a data worker from what torch drew for it: another one for every worker, rank and epoch.

    The arguments are BasicSR's. BasicSR's own function gives a worker the same seed in every epoch.
    """
    install()  # a spawned worker has a BasicSR of its own
    drawn = torch.initial_seed()  # base seed of this epoch, drawn in the main process, plus the worker's number
    random.seed(drawn)
    np.random.seed(drawn % 2**32)


def install() -> None:
    """Mend what is broken in BasicSR's data loading, in this process; a second call does nothing.

    Raises:
        UserError: BasicSR cannot be imported.
    """
    if _done:
        return
    compat.require_basicsr()
    from basicsr.utils.file_client import FileClient

    from han_arch.data.paired_dataset import CheckedPairedImageDataset, names_bad_files

    if not _shares_and_pickles():
        compat.replace(
            "basicsr.utils.file_client",
            "FileClient._backends",
            {**FileClient._backends, "lmdb": SharedLmdbBackend},
            "its LMDB backend opens an LMDB twice in a process, which lmdb 3 refuses, and does not pickle",
        )
    if not _draws_anew_each_epoch():
        compat.replace(
            "basicsr.data", "worker_init_fn", worker_init_fn, "its data workers draw the same crops in every epoch"
        )
    if not names_bad_files():
        from basicsr.utils.registry import DATASET_REGISTRY

        compat.replace(
            "basicsr.utils.registry",
            "DATASET_REGISTRY._obj_map",
            {**DATASET_REGISTRY._obj_map, "PairedImageDataset": CheckedPairedImageDataset},
            "its PairedImageDataset does not name the file of a bad sample and reads folders in no fixed order",
        )
    _done.append(True)


def _shares_and_pickles() -> bool:
    from basicsr.utils.file_client import FileClient

    with tempfile.TemporaryDirectory() as folder:
        environment = lmdb.open(folder)
        with environment.begin(write=True) as transaction:
            transaction.put(b"key", b"value")
        environment.close()
        try:
            # BasicSR's backend keeps its environments until the objects go, so both are needed at once.
            clients = [FileClient("lmdb", db_paths=folder) for _ in range(2)]
            values = [client.get("key", "default") for client in (*clients, pickle.loads(pickle.dumps(clients[0])))]
        except (lmdb.Error, TypeError):
            return False
        return values == [b"value"] * 3


def _draws_anew_each_epoch() -> bool:
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
