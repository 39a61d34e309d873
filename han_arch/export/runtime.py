"""Open an exported network in its runtime. `basicsr upscale` uses `choose_engine`; other code uses `load_runtime`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.export.targets import TARGETS, OpenedFile
from han_arch.inference.engines import Engine, get_engine
from han_arch.inference.plan import MemoryCost
from han_arch.speed.precision import PRECISIONS

# Name of a runtime -> suffix of its files.
RUNTIMES = {name: target.suffix for name, target in TARGETS.items() if target.safe}


class Runtime:
    """An exported network that is open in its runtime. Several threads may call it at the same time.

    Raises:
        UserError: the metadata do not contain valid values of `scale` and `num_in_ch` (number of channels).
    """

    def __init__(self, opened: OpenedFile, path: Path) -> None:
        self._run, self.metadata = opened
        self.scale, self.num_in_ch = whole_numbers(self.metadata, path, scale=64, num_in_ch=64)

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale lq, (b, num_in_ch, h, w), in [0, 1]. The output, (b, num_in_ch, scale*h, scale*w), is not clamped."""
        if lq.dim() != 4 or lq.shape[1] != self.num_in_ch:
            raise ValueError(f"lq must have the shape (b, {self.num_in_ch}, h, w); got {tuple(lq.shape)}")
        return self._run(lq.detach().to("cpu", torch.float32).contiguous())


def load_runtime(
    path: str | Path, runtime: str, *, dtype: str = "float32", threads: int | None = None, device: str = "cpu"
) -> Runtime:
    """Open an exported network.

    Args:
        path: the `.onnx` or `.xml` file. The `.bin` file of an `.xml` file must be in the same folder.
        runtime: "onnx" (ONNX Runtime) or "openvino".
        dtype: precision of the computation, "float32" or "bfloat16" (only in OpenVINO).
        threads: number of processor threads. None: the runtime chooses.
        device: "cpu", "cuda" (only in ONNX Runtime) or "gpu" (an Intel GPU, only in OpenVINO).

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: an argument is invalid, the runtime is not installed, the file is damaged, or `basicsr export` did
            not write the file.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UserError(f"runtime must be one of {', '.join(RUNTIMES)}; got {runtime!r}")
    target = TARGETS[runtime]
    precisions = {precision.long_name: precision for precision in target.precisions}
    if dtype not in precisions:
        raise UserError(f"dtype must be {' or '.join(precisions)} for {target.title}; got {dtype!r}")
    if device not in target.devices:
        raise UserError(f"device must be {' or '.join(target.devices)} for {target.title}; got {device!r}")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1; got {threads}")
    if not path.is_file():
        raise FileNotFoundError(
            f"the exported network {path} does not exist; write it with: basicsr export MODEL --to {runtime}"
        )
    if path.suffix != target.suffix:
        raise UserError(f"runtime {runtime} needs a {target.suffix} file from basicsr export; got {path}")
    return Runtime(target.open(path, target.devices[device], precisions[dtype], threads), path)


class RuntimeEngine:
    """An `Engine` that runs an exported network. It computes a complete image or tile at once, without strips.

    Args:
        path, runtime, device: as in `load_runtime`; the device "auto" means the CPU.
        dtype: precision of the computation, "fp32" or "bf16" (only in OpenVINO).

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: `load_runtime` fails, or the metadata do not contain valid values of num_feat and num_group.
    """

    def __init__(self, path: str | Path, runtime: str, device: str, dtype: str) -> None:
        self.path, self.runtime, self.dtype = Path(path), runtime, dtype
        self.device = "cpu" if device == "auto" else device
        self.name = self.path.name
        target = TARGETS[runtime]
        known = [precision.name for precision in target.precisions]
        if dtype not in known:
            raise UserError(f"--dtype must be {' or '.join(known)} for --runtime {runtime}; got {dtype}")
        self.network = load_runtime(path, runtime, dtype=PRECISIONS[dtype].long_name, device=self.device)
        self.scale, self.channels = self.network.scale, self.network.num_in_ch
        num_feat, num_group = whole_numbers(self.network.metadata, self.path, num_feat=4096, num_group=4096)
        weights = max(self.path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
        # Measured at the memory peak: 2 * num_group + 7 feature maps, with 4 and 10 groups at x2 and x4 (see plan.py).
        self.cost = MemoryCost(num_feat, 2 * num_group + 7, self.scale, weights, in_strips=False)

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the complete output as one strip that begins at row 0."""
        yield 0, self.network(lq)

    def in_float32(self) -> Engine | None:
        """Return an engine that runs the same file in float32; see `Engine.in_float32`."""
        return None if self.dtype == "fp32" else RuntimeEngine(self.path, self.runtime, self.device, "fp32")


def choose_engine(
    runtime: str, model: str | None, scale: int | None, device: str, dtype: str, winograd: bool = False
) -> Engine:
    """Return the engine for the options of `basicsr upscale`. An option that the user did not set is None.

    Raises:
        FileNotFoundError: the file of the network does not exist.
        UserError: two options contradict each other, `get_engine` fails, or `RuntimeEngine` fails.
    """
    engine: Engine
    if runtime == "torch":
        engine = get_engine(model or f"han-s-x{scale or 4}", device, dtype, winograd)
    elif winograd:
        raise UserError(f"--winograd works only with --runtime torch; got --runtime {runtime}")
    elif model is None:
        suffix = RUNTIMES[runtime]
        raise UserError(f"with --runtime {runtime}, --model must be the path of a {suffix} file from basicsr export")
    else:
        engine = RuntimeEngine(model, runtime, device, dtype)
    if scale not in (None, engine.scale):
        raise UserError(f"--scale {scale} does not fit the network {engine.name}, which upscales by {engine.scale}")
    return engine


def whole_numbers(metadata: Mapping[str, str], path: Path, **largest: int) -> list[int]:
    """Read whole numbers from the metadata of the file `path`.

    `largest` maps each key to the largest valid number. The smallest valid number is 1. A damaged file, or a file from
    another program, may contain a number that is out of range.

    Raises:
        UserError: a number is missing or out of range.
    """
    numbers = [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in largest]
    if not all(1 <= number <= limit for number, limit in zip(numbers, largest.values(), strict=True)):
        raise UserError(
            f"the metadata of {path} lacks a valid {' or '.join(largest)}; write the file with basicsr export"
        )
    return numbers
