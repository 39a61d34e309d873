"""Exported networks as engines: ONNX Runtime and OpenVINO in place of PyTorch."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from han_arch.errors import UserError
from han_arch.export.runtime import RUNTIMES, features_and_groups, load_runtime
from han_arch.inference.engines import Engine
from han_arch.inference.memory import Cost

DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


class RuntimeEngine:
    """A file that `basicsr export` wrote, in its runtime; the whole image or tile at once, without strips.

    Args:
        path: `.onnx` or `.xml`.
        runtime: "onnx" or "openvino".
        device: "auto" is the CPU; else see `load_runtime`.
        dtype: "fp32", or with OpenVINO "bf16".

    Raises:
        UserError: an argument out of its range, or the file is damaged, foreign or older than its metadata must be.
        FileNotFoundError: no such file.
    """

    def __init__(self, path: str | Path, runtime: str, device: str = "auto", dtype: str = "fp32") -> None:
        path = Path(path)
        if dtype not in DTYPES:
            raise UserError(f"--dtype must be {' or '.join(DTYPES)} with --runtime {runtime}; got {dtype}")
        if not path.exists():
            wanted = f"basicsr export MODEL --to {runtime} writes a {RUNTIMES[runtime]} file"
            raise FileNotFoundError(f"no such exported network: {path}; {wanted}")
        self.device = "cpu" if device == "auto" else device
        self._run = load_runtime(path, runtime, dtype=DTYPES[dtype], device=self.device)
        self.name, self.dtype, self.scale, self.channels = path.name, dtype, self._run.scale, self._run.num_in_ch
        num_feat, num_group = features_and_groups(self._run.metadata, path)
        weights = max(path.stat().st_size, path.with_suffix(".bin").stat().st_size if runtime == "openvino" else 0)
        # Measured as memory.py says, at 4 and 10 groups, x2 and x4: these maps (times its factor) and the whole tail.
        self.cost = Cost(num_feat, 2 * num_group + 7, self.scale, max(3, self.channels), weights, in_strips=False)
        self._wide = None if dtype == "fp32" else (path, runtime, device)

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """See `Engine`."""
        yield 0, self._run(lq)

    def in_float32(self) -> Engine | None:
        """See `Engine`."""
        return None if self._wide is None else RuntimeEngine(*self._wide)
