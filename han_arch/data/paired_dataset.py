"""BasicSR's PairedImageDataset with samples that name their files; imported only after BasicSR is known to work.

A module of its own with BasicSR imported at the top, since a spawned worker must find the class by its name.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from han_arch import compat
from han_arch.data.lmdb_check import LmdbFault, SampleError
from han_arch.images.strict import ImageError, decode_image, encode_png

compat.require_basicsr()

from basicsr.data.paired_image_dataset import PairedImageDataset  # noqa: E402
from basicsr.utils import FileClient  # noqa: E402


class CheckedPairedImageDataset(PairedImageDataset):
    """GT-LR pairs as BasicSR's PairedImageDataset gives them, with the same options.

    Deviations: pairs stand in the order of their names on every machine; a sample that cannot be used raises
    SampleError with its file, or its LMDB and key; the options stay as they were given.

    Args:
        opt: BasicSR's dataset options.

    Raises:
        UserError: no pair in the folders.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.paths.sort(key=lambda pair: pair["gt_path"])
        if not self.paths:
            raise SampleError(f"no image in {self.gt_folder} (sub-folders are not searched)")
        backend = dict(self.io_backend_opt)
        self.file_client = FileClient(backend.pop("type"), **backend)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The sample as BasicSR gives it; SampleError names the file that is at fault."""
        try:
            return super().__getitem__(index)
        except (SampleError, LmdbFault):
            raise
        except Exception as error:
            raise SampleError(self._explain(self.paths[index], error)) from error

    def _explain(self, pair: dict[str, str], error: Exception) -> str:
        shapes = []
        for side, folder in (("gt", self.gt_folder), ("lq", self.lq_folder)):
            name = pair[f"{side}_path"]
            where = f"{folder}: {name}" if self.file_client.backend == "lmdb" else name
            try:
                shapes.append(decode_image(self.file_client.get(name, side)).shape)
            except (ImageError, OSError) as fault:
                return f"{where}: {fault}"
        return f"{where} (LR {shapes[1]}) and its GT {pair['gt_path']} ({shapes[0]}): {error}"


def names_bad_files() -> bool:
    """Whether the registered PairedImageDataset names the file of a damaged sample."""
    from basicsr.utils.registry import DATASET_REGISTRY

    with tempfile.TemporaryDirectory() as folder:
        good = encode_png(np.zeros((8, 8), np.uint8))
        for side, data in (("gt", good), ("lq", b"not an image")):
            (Path(folder) / side).mkdir()
            (Path(folder) / side / "probe.png").write_bytes(data)
        dataset = DATASET_REGISTRY._obj_map["PairedImageDataset"](
            {
                "dataroot_gt": f"{folder}/gt",
                "dataroot_lq": f"{folder}/lq",
                "io_backend": {"type": "disk"},
                "phase": "val",
                "scale": 1,
            }
        )
        try:
            dataset[0]
        except Exception as error:
            return f"{folder}/lq/probe.png" in str(error)
        return False
