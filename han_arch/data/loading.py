"""Repair the parts of BasicSR's data loading that fail with current packages.

`install()` tests each part and replaces only the broken ones. The replacements have BasicSR's names, so option files
stay the same.
"""

import functools
import os
import pickle
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
import torch
from torch.utils.data import Dataset

from han_arch import compat
from han_arch.data import pairs
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


class _CheckedImages(Dataset[dict[str, Any]]):
    """A data set of BasicSR that loads the images in `pairs.list_items`, with clear errors about unusable images."""

    def __init__(self, opt: dict[str, Any], basicsr_class: Any) -> None:
        listing = pairs.list_items(opt | {"type": basicsr_class.__name__})
        if listing.faults:
            raise SampleError("\n".join(fault.text for fault in listing.faults))
        from basicsr.utils import FileClient

        sides = [option.removeprefix("dataroot_") for option in pairs.SIDES[basicsr_class.__name__]]
        places = [
            {f"{side}_path": _path(opt[f"dataroot_{side}"], ref) for side, ref in zip(sides, item, strict=True)}
            for item in listing.items
        ]
        if len(sides) == 2:
            places.sort(key=lambda pair: pair["gt_path"])
        # BasicSR would list the images too. With an empty list file, its own list is empty.
        self.inner = basicsr_class(opt | {"io_backend": {"type": "disk"}, "meta_info_file": os.devnull})
        self.inner.paths = places if len(sides) == 2 else [place["lq_path"] for place in places]
        self.opt, self.paths, self.places = opt, self.inner.paths, places
        # Create the client here, because BasicSR would remove `type` from the options when it reads the first image.
        backend = dict(opt["io_backend"])
        if backend["type"] == "lmdb":
            backend |= {"db_paths": [opt[f"dataroot_{side}"] for side in sides], "client_keys": sides}
        self.inner.file_client = FileClient(backend.pop("type"), **backend)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the same item as BasicSR; raise SampleError or LmdbFault if one of its images cannot be used."""
        try:
            return self.inner[index]
        except LmdbFault:
            raise
        except Exception as error:
            raise SampleError(self._explain(self.places[index], error)) from error

    def _explain(self, places: dict[str, str], error: Exception) -> str:
        shapes, client = [], self.inner.file_client
        for option, name in places.items():
            side = option.removesuffix("_path")
            where = f"{self.opt[f'dataroot_{side}']}: {name}" if client.backend == "lmdb" else name
            try:
                shapes.append(f"{side.upper()} image {where} has shape {decode_image(client.get(name, side)).shape}")
            except (ImageError, OSError) as fault:
                return f"{where}: {fault}"
        return f"{' and '.join(reversed(shapes))}: {error}"


class CheckedPairedImageDataset(_CheckedImages):
    """BasicSR's PairedImageDataset with the same options and items, sorted by GT path, and with clear errors.

    Raises:
        SampleError: there are no images, or an image has no partner.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        from basicsr.data.paired_image_dataset import PairedImageDataset

        super().__init__(opt, PairedImageDataset)


class CheckedSingleImageDataset(_CheckedImages):
    """BasicSR's SingleImageDataset with the same options and items, and with clear errors.

    Raises:
        SampleError: there are no images, or a listed image does not exist.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        from basicsr.data.single_image_dataset import SingleImageDataset

        super().__init__(opt, SingleImageDataset)


def _path(root: str, ref: pairs.ImageRef) -> str:
    return ref.name if ref.in_lmdb else os.path.join(root, ref.name)


def imfrombytes(content: bytes, flag: str = "color", float32: bool = False) -> np.ndarray:
    """Decode an image like BasicSR's function of this name, but by the rule of all other commands (`decode_image`).

    OpenCV, which BasicSR uses, silently drops transparency and all bits above 8, and converts CMYK by a formula.

    Return (h, w, 3) BGR: uint8, or float32 in [0, 1]. Flags other than "color" are passed on to BasicSR.
    """
    if flag != "color":
        from basicsr.utils import img_util

        return img_util.imfrombytes(content, flag, float32)
    pixels = decode_image(content)
    image = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR if pixels.ndim == 2 else cv2.COLOR_RGB2BGR)
    return image.astype(np.float32) / 255.0 if float32 else image


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
        checked = {"PairedImageDataset": CheckedPairedImageDataset, "SingleImageDataset": CheckedSingleImageDataset}
        datasets = {**DATASET_REGISTRY._obj_map, **checked}
        why = "BasicSR's data sets of images read folders in no fixed order; their errors do not name the damaged file"
        compat.replace("basicsr.utils.registry", "DATASET_REGISTRY._obj_map", datasets, why)
    if not is_decoded_whole():
        why = "BasicSR drops transparency and the bits above 8 of an image without a message"
        for name in [name for name in sys.modules if name.startswith("basicsr.data.")]:
            if hasattr(sys.modules[name], "imfrombytes"):
                compat.replace(name, "imfrombytes", imfrombytes, why)


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


def is_decoded_whole() -> bool:
    """Test whether BasicSR's data sets refuse an image that they cannot use completely, such as one of 16 bits."""
    from basicsr.data import paired_image_dataset

    try:
        paired_image_dataset.imfrombytes(cv2.imencode(".png", np.zeros((8, 8), np.uint16))[1].tobytes())
    except Exception:  # a refusal; each decoder raises its own kind of error
        return True
    return False
