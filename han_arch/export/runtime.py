"""Open an exported network in its runtime: `load_runtime(path, runtime)`, or `choose_engine` for upscaling."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.export.targets import TARGETS, ExportTarget, OpenedFile, Placement
from han_arch.inference.engines import Engine, get_engine
from han_arch.inference.plan import MemoryCost
from han_arch.speed.precision import PRECISIONS

RUNTIMES = {name: target.suffix for name, target in TARGETS.items() if target.safe}  # runtime -> suffix of its files
# Far beyond any of our networks; a larger number means a damaged or foreign file.
_LARGEST_SCALE, _MOST_CHANNELS, _LARGEST_NETWORK = 64, 64, 4096


class Runtime:
    """An exported network as a callable. Safe to call from several threads at once.

    Attributes:
        scale: how many times larger the output is.
        num_in_ch: channels of input and output.
        metadata: the text that `export` wrote into the file.

    Raises:
        UserError: the metadata lack a valid scale or number of channels.
    """

    def __init__(self, opened: OpenedFile, path: Path) -> None:
        self._run = opened.run
        self.metadata = opened.metadata
        self.scale, self.num_in_ch = scale_and_channels(opened.metadata, path)

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
        raise FileNotFoundError(f"no such exported network: {path}")
    if path.suffix != target.suffix:
        raise UserError(f"{path}: runtime {runtime} reads {target.suffix} files; write one with basicsr export")
    return Runtime(target.open(path, Placement(target.devices[device], precisions[dtype], threads)), path)


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
        path: see `load_runtime`.
        runtime: see `load_runtime`.
        device: "auto" is the CPU; for others see `load_runtime`.
        dtype: "fp32", or with OpenVINO "bf16".

    Raises:
        FileNotFoundError: no such file.
        UserError: as `load_runtime`; or the metadata lack the network's dimensions.
    """
    path, place, target = Path(path), "cpu" if device == "auto" else device, TARGETS[runtime]
    if dtype not in target.dtypes:
        raise UserError(f"--dtype must be {' or '.join(target.dtypes)} with --runtime {runtime}; got {dtype}")
    if not path.exists():
        advice = f"basicsr export MODEL --to {runtime} writes a {target.suffix} file"
        raise FileNotFoundError(f"no such exported network: {path}; {advice}")
    network = load_runtime(path, runtime, dtype=PRECISIONS[dtype].long_name, device=place)
    num_feat, num_group = features_and_groups(network.metadata, path)
    weights = max(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    # Measured as inference/plan.py describes, at 4 and 10 groups, x2 and x4: this many maps, and the whole tail.
    maps, channels = 2 * num_group + 7, max(3, network.num_in_ch)
    cost = MemoryCost(num_feat, maps, network.scale, channels, weights, in_strips=False)
    wide = None if dtype == "fp32" else partial(open_engine, path, runtime, device)
    return RuntimeEngine(network, path.name, place, dtype, cost, wide)


def open_own(path: Path, target: ExportTarget) -> Runtime:
    """Open a file that `export` has just written, on the target's default device and in its default precision."""
    return Runtime(target.open(path, Placement(next(iter(target.devices.values())), target.precisions[0])), path)


def scale_and_channels(metadata: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Read `scale` and `num_in_ch` from a file's metadata.

    Raises:
        UserError: one is missing or out of range: `basicsr export` did not write the file.
    """
    scale, channels = _whole_numbers(metadata, "scale", "num_in_ch")
    if not (1 <= scale <= _LARGEST_SCALE and 1 <= channels <= _MOST_CHANNELS):
        raise UserError(f"{path} has no valid scale and num_in_ch in its metadata; write it with basicsr export")
    return scale, channels


def features_and_groups(metadata: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Read `num_feat` and `num_group` from a file's metadata; a run's memory follows from them.

    Raises:
        UserError: one is missing or out of range.
    """
    num_feat, num_group = _whole_numbers(metadata, "num_feat", "num_group")
    if not (1 <= num_feat <= _LARGEST_NETWORK and 1 <= num_group <= _LARGEST_NETWORK):
        raise UserError(
            f"{path} has no valid num_feat and num_group in its metadata; write it again with basicsr export"
        )
    return num_feat, num_group


def _whole_numbers(metadata: Mapping[str, str], *keys: str) -> list[int]:
    """Return the values of the keys; 0 where one is missing or not a number."""
    return [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in keys]
