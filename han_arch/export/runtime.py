"""Open an exported network in its runtime: `load_runtime(path, runtime)`, or `choose_engine` for upscaling."""

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

RUNTIMES = {name: target.suffix for name, target in TARGETS.items() if target.safe}  # runtime -> suffix of its files
# Far beyond any of our networks; a larger number means a damaged or foreign file.
_LARGEST_SCALE, _MOST_CHANNELS, _LARGEST_NETWORK = 64, 64, 4096


class Runtime:
    """An exported network as a callable, with the file's metadata. Several threads may call it at once.

    Raises:
        UserError: the metadata lack a valid `scale` or `num_in_ch` (channels of input and output).
    """

    def __init__(self, opened: OpenedFile, path: Path) -> None:
        self._run, self.metadata = opened
        self.scale, self.num_in_ch = whole_numbers(self.metadata, path, scale=_LARGEST_SCALE, num_in_ch=_MOST_CHANNELS)

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve lq, (b, num_in_ch, h, w) in [0, 1] -> (b, num_in_ch, scale*h, scale*w), not clamped."""
        if lq.dim() != 4 or lq.shape[1] != self.num_in_ch:
            raise ValueError(f"lq must be (b, {self.num_in_ch}, h, w); got {tuple(lq.shape)}")
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
        path: `.onnx` for "onnx", `.xml` (with its `.bin` beside it) for "openvino".
        runtime: "onnx" (ONNX Runtime) or "openvino".
        dtype: "float32", or with OpenVINO "bfloat16": the precision of the computation.
        threads: processor threads; None leaves the choice to the runtime.
        device: "cpu"; "cuda" with ONNX Runtime; "gpu" (Intel's) with OpenVINO.

    Raises:
        FileNotFoundError: no such file.
        UserError: an argument is out of its range, the runtime is not installed, or the file is damaged or foreign.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UserError(f"runtime must be one of {', '.join(RUNTIMES)}; got {runtime!r}")
    target = TARGETS[runtime]
    precisions = {precision.long_name: precision for precision in target.precisions}
    if dtype not in precisions:
        raise UserError(f"{target.title} computes in {' or '.join(precisions)}; got dtype {dtype!r}")
    if device not in target.devices:
        raise UserError(f"{target.title} runs on {' or '.join(target.devices)}; got device {device!r}")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1; got {threads}")
    if not path.is_file():
        advice = f"basicsr export MODEL --to {runtime} writes a {target.suffix} file"
        raise FileNotFoundError(f"no such exported network: {path}; {advice}")
    if path.suffix != target.suffix:
        raise UserError(f"{path}: runtime {runtime} reads {target.suffix} files; write one with basicsr export")
    return Runtime(target.open(path, target.devices[device], precisions[dtype], threads), path)


@dataclass
class RuntimeEngine:
    """An exported network as an `Engine`. It runs a whole image or tile at once, without strips.

    Attributes:
        network: the opened file.
        name, device, dtype, cost: see `Engine`.
        reopen: opens the same file in float32; None when this one is in float32.
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
        """See `Engine`."""
        yield 0, self.network(lq)

    def in_float32(self) -> Engine | None:
        """See `Engine`."""
        return None if self.reopen is None else self.reopen()


def choose_engine(
    runtime: str, model: str | None, scale: int | None, device: str, dtype: str, winograd: bool = False
) -> Engine:
    """Return the engine that the options of `basicsr upscale` name; runtime "torch" means `get_engine`.

    Raises:
        FileNotFoundError, UserError: as `get_engine` and `open_engine`; or options that do not fit each other.
    """
    if runtime == "torch":
        engine = get_engine(model or f"han-s-x{scale or 4}", device, dtype, winograd)
    elif winograd:
        raise UserError(f"--winograd is for --runtime torch; got {runtime}")
    elif model is None:
        suffix = RUNTIMES[runtime]
        raise UserError(f"--runtime {runtime} needs --model with a {suffix} file; basicsr export writes one")
    else:
        engine = open_engine(model, runtime, device, dtype)
    if scale not in (None, engine.scale):
        raise UserError(f"--scale {scale} does not fit {engine.name}, which is for x{engine.scale}")
    return engine


def open_engine(path: str | Path, runtime: str, device: str = "auto", dtype: str = "fp32") -> Engine:
    """Open an exported network as an engine of `basicsr upscale`.

    Args:
        path, runtime, device: see `load_runtime`; "auto" is the CPU.
        dtype: "fp32", or with OpenVINO "bf16".

    Raises:
        FileNotFoundError, UserError: as `load_runtime`; also when the metadata lack the network's dimensions.
    """
    path, place, target = Path(path), "cpu" if device == "auto" else device, TARGETS[runtime]
    if dtype not in target.dtypes:
        raise UserError(f"--dtype must be {' or '.join(target.dtypes)} with --runtime {runtime}; got {dtype}")
    network = load_runtime(path, runtime, dtype=PRECISIONS[dtype].long_name, device=place)
    num_feat, num_group = whole_numbers(network.metadata, path, num_feat=_LARGEST_NETWORK, num_group=_LARGEST_NETWORK)
    weights = max(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    # Measured as inference/plan.py describes, at 4 and 10 groups, x2 and x4: this many maps, and the whole tail.
    maps, channels = 2 * num_group + 7, max(3, network.num_in_ch)
    cost = MemoryCost(num_feat, maps, network.scale, channels, weights, in_strips=False)
    wide = None if dtype == "fp32" else partial(open_engine, path, runtime, device)
    return RuntimeEngine(network, path.name, place, dtype, cost, wide)


def whole_numbers(metadata: Mapping[str, str], path: Path, **largest: int) -> list[int]:
    """Read numbers from the metadata of the file path: the key of each argument, from 1 to the argument's value.

    Raises:
        UserError: one is missing or out of range: `basicsr export` did not write the file.
    """
    numbers = [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in largest]
    if not all(1 <= number <= limit for number, limit in zip(numbers, largest.values(), strict=True)):
        raise UserError(f"{path} has no valid {' and '.join(largest)} in its metadata; write it with basicsr export")
    return numbers
