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
# Limits for the numbers in a file's metadata. A larger number means a damaged file or a file from another program.
_LARGEST_SCALE, _MOST_CHANNELS, _LARGEST_NETWORK = 64, 64, 4096


class Runtime:
    """An opened exported network and its metadata. Several threads may call the object at the same time.

    Raises:
        UserError: `scale` or `num_in_ch` (number of input and output channels) is missing or invalid in the metadata.
    """

    def __init__(self, opened: OpenedFile, path: Path) -> None:
        self._run, self.metadata = opened
        self.scale, self.num_in_ch = whole_numbers(self.metadata, path, scale=_LARGEST_SCALE, num_in_ch=_MOST_CHANNELS)

    def __call__(self, lq: Tensor) -> Tensor:
        """Upscale images without clamping: (b, num_in_ch, h, w) in [0, 1] -> (b, num_in_ch, scale*h, scale*w)."""
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
        path: path of the `.onnx` or `.xml` file. The `.bin` file of an `.xml` file must be in the same folder.
        runtime: "onnx" (ONNX Runtime) or "openvino".
        dtype: precision of the computation, "float32" or "bfloat16". Only OpenVINO supports "bfloat16".
        threads: number of processor threads. None: the runtime chooses.
        device: "cpu" for both runtimes, "cuda" for ONNX Runtime, or "gpu" (an Intel GPU) for OpenVINO.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: an argument is invalid, the runtime is not installed, the file is damaged, or `basicsr export` did
            not write it.
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
    """An `Engine` that runs an exported network. It computes a complete image or tile at once, without strips.

    Attributes:
        network: the exported network, opened in its runtime.
        name, device, dtype, cost: the attributes that `Engine` describes.
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
        """Yield the complete output as one strip that begins at row 0."""
        yield 0, self.network(lq)

    def in_float32(self) -> Engine | None:
        """Open the same network in float32, or return None if this engine already computes in float32."""
        return None if self.reopen is None else self.reopen()


def choose_engine(
    runtime: str, model: str | None, scale: int | None, device: str, dtype: str, winograd: bool = False
) -> Engine:
    """Return the engine that the options of `basicsr upscale` select.

    The runtime "torch" uses `get_engine`. The other runtimes use `open_engine`.

    Raises:
        FileNotFoundError: the file of the network does not exist.
        UserError: two options contradict each other, or `get_engine` or `open_engine` raises it.
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
        path, runtime, device: the arguments of `load_runtime`. The device "auto" means the CPU.
        dtype: precision of the computation, "fp32" or "bf16". Only OpenVINO supports "bf16".

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: `load_runtime` raises it, or num_feat or num_group is missing or invalid in the metadata.
    """
    path, place, target = Path(path), "cpu" if device == "auto" else device, TARGETS[runtime]
    if dtype not in target.dtypes:
        raise UserError(f"--dtype must be {' or '.join(target.dtypes)} for --runtime {runtime}; got {dtype}")
    network = load_runtime(path, runtime, dtype=PRECISIONS[dtype].long_name, device=place)
    num_feat, num_group = whole_numbers(network.metadata, path, num_feat=_LARGEST_NETWORK, num_group=_LARGEST_NETWORK)
    weights = max(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    # The number of feature maps at the memory peak was measured with 4 and 10 groups at x2 and x4, as inference/plan.py
    # describes.
    maps, channels = 2 * num_group + 7, max(3, network.num_in_ch)
    cost = MemoryCost(num_feat, maps, network.scale, channels, weights, in_strips=False)
    wide = None if dtype == "fp32" else partial(open_engine, path, runtime, device)
    return RuntimeEngine(network, path.name, place, dtype, cost, wide)


def whole_numbers(metadata: Mapping[str, str], path: Path, **largest: int) -> list[int]:
    """Read one whole number from a file's metadata for each keyword argument.

    Args:
        metadata: the metadata of the file.
        path: path of the file. The error message names it.
        largest: key in the metadata -> largest valid number. The smallest valid number is 1.

    Raises:
        UserError: a number is missing or out of range, so `basicsr export` did not write the file.
    """
    numbers = [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in largest]
    if not all(1 <= number <= limit for number, limit in zip(numbers, largest.values(), strict=True)):
        raise UserError(
            f"the metadata of {path} must contain valid {' and '.join(largest)}; write the file with basicsr export"
        )
    return numbers
