"""Open an exported network in its runtime: `load_runtime`, or `choose_engine` for `basicsr upscale`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.export.targets import TARGETS, OpenedFile
from han_arch.inference.engines import Engine, get_engine
from han_arch.inference.plan import MemoryCost
from han_arch.speed.precision import PRECISIONS

RUNTIMES = {
    name: target.suffix for name, target in TARGETS.items() if target.safe
}  # name of the runtime -> suffix of its files
# Limits for the numbers in a file's metadata. A larger number means that the file is damaged or not from `export`.
_LARGEST_SCALE, _MOST_CHANNELS, _LARGEST_NETWORK = 64, 64, 4096


class Runtime:
    """A callable exported network, with the metadata of its file. Several threads may call it at the same time.

    Raises:
        UserError: the metadata do not contain valid numbers for `scale` and `num_in_ch` (channels of input and output).
    """

    def __init__(self, opened: OpenedFile, path: Path) -> None:
        self._run, self.metadata = opened
        self.scale, self.num_in_ch = whole_numbers(self.metadata, path, scale=_LARGEST_SCALE, num_in_ch=_MOST_CHANNELS)

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve images: (b, num_in_ch, h, w) in [0, 1] -> (b, num_in_ch, scale*h, scale*w), not clamped."""
        if lq.dim() != 4 or lq.shape[1] != self.num_in_ch:
            raise ValueError(f"lq must have the shape (b, {self.num_in_ch}, h, w); got {tuple(lq.shape)}")
        return self._run(lq.detach().to("cpu", torch.float32).contiguous())


def load_runtime(
    path: str | Path,
    runtime: str,
    *,
    dtype: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
) -> Runtime:
    """Open an exported network.

    Args:
        path: the exported file: `.onnx` for "onnx"; `.xml` for "openvino", with its `.bin` in the same folder.
        runtime: "onnx" (ONNX Runtime) or "openvino".
        dtype: precision of the computation: "float32", or "bfloat16" (only with OpenVINO).
        threads: number of processor threads. None: the runtime chooses.
        device: "cpu", "cuda" (only with ONNX Runtime) or "gpu" (an Intel GPU, only with OpenVINO).

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: an argument is out of range, the runtime is not installed, or the file is damaged or was not written
            by `basicsr export`.
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
        advice = f"write it with: basicsr export MODEL --to {runtime}"
        raise FileNotFoundError(f"the exported network {path} does not exist; {advice}")
    if path.suffix != target.suffix:
        raise UserError(
            f"runtime {runtime} needs a {target.suffix} file; got {path}; basicsr export writes such a file"
        )
    return Runtime(target.open(path, target.devices[device], precisions[dtype], threads), path)


@dataclass
class RuntimeEngine:
    """An exported network as an `Engine`. It computes a complete image or tile at once, without strips.

    Attributes:
        network: the exported network, opened in its runtime.
        name, device, dtype, cost: see `Engine`.
        reopen: function that opens the same file in float32; None if this engine already computes in float32.
    """

    network: Runtime
    name: str
    device: str
    dtype: str
    cost: MemoryCost
    reopen: Callable[[], Engine] | None = None

    def __post_init__(self) -> None:
        self.scale, self.channels = self.network.scale, self.network.num_in_ch

    def strips(self, lq: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the complete output as one strip that begins at row 0; see `Engine`."""
        yield 0, self.network(lq)

    def in_float32(self) -> Engine | None:
        """Open the same network in float32; return None if this engine already computes in float32."""
        return None if self.reopen is None else self.reopen()


def choose_engine(
    runtime: str, model: str | None, scale: int | None, device: str, dtype: str, winograd: bool = False
) -> Engine:
    """Return the engine for the options of `basicsr upscale`: from `get_engine` for "torch", else from `open_engine`.

    Raises:
        FileNotFoundError, UserError: see `get_engine` and `open_engine`; UserError also if two options contradict each
            other.
    """
    if runtime == "torch":
        engine = get_engine(model or f"han-s-x{scale or 4}", device, dtype, winograd)
    elif winograd:
        raise UserError(f"--winograd works only with --runtime torch; got --runtime {runtime}")
    elif model is None:
        suffix = RUNTIMES[runtime]
        raise UserError(f"--runtime {runtime} needs --model with the path of a {suffix} file; basicsr export writes it")
    else:
        engine = open_engine(model, runtime, device, dtype)
    if scale not in (None, engine.scale):
        raise UserError(f"--scale {scale} does not fit the network {engine.name}, which upscales by {engine.scale}")
    return engine


def open_engine(path: str | Path, runtime: str, device: str = "auto", dtype: str = "fp32") -> Engine:
    """Open an exported network as an engine for `basicsr upscale`.

    Args:
        path, runtime, device: see `load_runtime`; device "auto" means the CPU.
        dtype: precision of the computation: "fp32", or "bf16" (only with OpenVINO).

    Raises:
        FileNotFoundError, UserError: see `load_runtime`; UserError also if the metadata do not contain valid numbers
            for num_feat and num_group.
    """
    path, place, target = Path(path), "cpu" if device == "auto" else device, TARGETS[runtime]
    if dtype not in target.dtypes:
        raise UserError(f"--dtype must be {' or '.join(target.dtypes)} for --runtime {runtime}; got {dtype}")
    network = load_runtime(path, runtime, dtype=PRECISIONS[dtype].long_name, device=place)
    num_feat, num_group = whole_numbers(network.metadata, path, num_feat=_LARGEST_NETWORK, num_group=_LARGEST_NETWORK)
    weights = max(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    # Number of feature maps at the peak, measured as inference/plan.py describes, at 4 and 10 groups, x2 and x4.
    maps, channels = 2 * num_group + 7, max(3, network.num_in_ch)
    cost = MemoryCost(num_feat, maps, network.scale, channels, weights, in_strips=False)
    wide = None if dtype == "fp32" else partial(open_engine, path, runtime, device)
    return RuntimeEngine(network, path.name, place, dtype, cost, wide)


def whole_numbers(metadata: Mapping[str, str], path: Path, **largest: int) -> list[int]:
    """Read whole numbers from a file's metadata: one number for each keyword argument.

    Args:
        metadata: the metadata of the file.
        path: path of the file, for the message.
        largest: the keys to read; the value of each is the largest valid number. The smallest valid number is 1.

    Raises:
        UserError: a number is missing or out of range, so `basicsr export` did not write the file.
    """
    numbers = [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in largest]
    if not all(1 <= number <= limit for number, limit in zip(numbers, largest.values(), strict=True)):
        raise UserError(
            f"the metadata of {path} need valid {' and '.join(largest)}; write the file with basicsr export"
        )
    return numbers
