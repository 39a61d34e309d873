"""The table of export targets, with the functions that write and open a file of each.

Batch, height and width stay free. The graph is float32 throughout: LAM's inner products reach 1e10 and overflow in
float16, where every pixel becomes NaN. bfloat16 has float32's range and works.
"""

import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.nn import functional as F

from han_arch.archs.han_arch import HAN
from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.speed.precision import PRECISIONS, Precision

INPUT, OUTPUT = "lq", "output"  # the graph's one input and one output
RT_INFO = "han_arch"  # the entry of OpenVINO's rt_info with our metadata
TORCH_EXTRA_FILE = "han_arch.json"  # the file in a .pt2 archive with our metadata
OPSET = 18  # ONNX's operator set; runtimes since 2023 have it
_TRACED_SIZE = (2, 12, 14)  # any batch, height, width that differ from each other and from 1
_FREE_SIDES = {INPUT: {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}}

Metadata = Mapping[str, str]
# An opened file: a function of a contiguous float32 tensor on the CPU, (b, channels, h, w), and the file's metadata.
OpenedFile = tuple[Callable[[Tensor], Tensor], Metadata]


@dataclass(frozen=True)
class ExportTarget:
    """A file format for networks, and the runtime that reads it."""

    name: str  # for `--to` and `load_runtime`
    title: str  # the runtime's name in messages
    suffixes: tuple[str, ...]  # of the files that belong together; the user names the first
    # Writes a network and its metadata to a path; raises UserError when the format cannot express it.
    write: Callable[[HAN, Path, Metadata], None]
    # Opens a file in the runtime; raises UserError for a damaged file or a missing device. Arguments: path, the
    # runtime's name of the device, precision, processor threads (None leaves them to the runtime).
    open: Callable[[Path, str, Precision, int | None], OpenedFile]
    devices: Mapping[str, str]  # our name of a device -> the runtime's name; the first is the default
    dtypes: tuple[str, ...] = ("fp32",)  # names of the precisions that the runtime computes in, the default first
    packages: tuple[str, ...] = ()  # required to write and check a file
    extra: str = ""  # the extra of han_arch that installs these packages
    safe: bool = True  # False: a file of unknown origin could run code, so only `export` opens its own

    @property
    def suffix(self) -> str:
        """Suffix of the file that the user names."""
        return self.suffixes[0]

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that the runtime computes in."""
        return tuple(PRECISIONS[name] for name in self.dtypes)


def picture(net: HAN, size: tuple[int, int, int]) -> Tensor:
    """Make an input for net, (batch, channels, height, width) in [0, 1]: smooth shapes with noise, the same each time.

    The size is (batch, height, width).
    """
    batch, height, width = size
    generator = torch.Generator().manual_seed(batch * 10_000 + height * 100 + width)
    coarse = torch.rand(batch, net.conv_first.in_channels, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def write_onnx(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write one `.onnx` file that holds the weights and the metadata (`metadata_props`)."""
    with _tracing("ONNX"):
        program = torch.onnx.export(
            net,
            (picture(net, _TRACED_SIZE),),
            dynamo=True,
            dynamic_shapes=_FREE_SIDES,
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.model.metadata_props.update(metadata)
    program.save(path)


def open_onnx(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open a `.onnx` file in ONNX Runtime; UserError when that lacks the device or cannot read the file."""
    ort = require("onnxruntime", "export")
    if device not in ort.get_available_providers():
        raise UserError(f"this ONNX Runtime has no {device}; pip install onnxruntime-gpu, or use device cpu")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only; the exception repeats them
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=[device])
    except Exception as error:  # its exceptions have no common base
        raise UserError(f"{path} is damaged or not an ONNX network: {_reason(error)}") from error

    def run(lq: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: lq.numpy()})[0])

    return run, dict(session.get_modelmeta().custom_metadata_map)


def write_openvino(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write a `.xml` file with the metadata (`rt_info`) and a `.bin` file with the weights, via ONNX.

    OpenVINO can also convert torch.export's program. It then runs PixelShuffle as three passes over the largest map and
    is half as fast in bfloat16.
    """
    onnx_path = path.with_suffix(".onnx")
    write_onnx(net, onnx_path, metadata)
    openvino_from_onnx(onnx_path, path, metadata)
    onnx_path.unlink()


def openvino_from_onnx(onnx_path: Path, path: Path, metadata: Metadata) -> None:
    """Convert an ONNX file to OpenVINO's `.xml` and `.bin`, with float32 weights."""
    openvino = require("openvino", "openvino")
    model = openvino.convert_model(str(onnx_path))
    for key, value in metadata.items():
        model.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(model, path, compress_to_fp16=False)


def open_openvino(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open a `.xml` file, with its `.bin` beside it, in OpenVINO; errors as `open_onnx`."""
    openvino = require("openvino", "openvino")
    if not path.with_suffix(".bin").is_file():
        raise FileNotFoundError(f"no weights beside {path}: {path.with_suffix('.bin').name} is missing")
    core = openvino.Core()
    if not any(found.split(".")[0] == device for found in core.available_devices):
        raise UserError(f"OpenVINO has no device {device} here; it has {', '.join(core.available_devices)}")
    # By default OpenVINO computes in bfloat16 on processors that have its instructions.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if precision.name == "bf16" else "f32"}
    if threads is not None:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        model = core.read_model(path)
        info = model.get_rt_info()[RT_INFO].items() if model.has_rt_info([RT_INFO]) else ()
        metadata = {key: str(value.value) for key, value in info}
        request = core.compile_model(model, device, settings).create_infer_request()
    except RuntimeError as error:
        raise UserError(f"{path} is damaged or not an OpenVINO network: {_reason(error)}") from error
    lock = threading.Lock()  # all threads share one request, and with it one working memory

    def run(lq: Tensor) -> Tensor:
        with lock:
            return torch.from_numpy(request.infer([lq.numpy()], share_inputs=True)[0])

    return run, metadata


def write_torch(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write a torch.export program (`.pt2`), with the metadata as JSON in its extra file `han_arch.json`."""
    with _tracing("torch.export"):
        program = torch.export.export(net, (picture(net, _TRACED_SIZE),), dynamic_shapes=_FREE_SIDES)
        torch.export.save(program, path, extra_files={TORCH_EXTRA_FILE: json.dumps(metadata, indent=1)})


def open_torch(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open a `.pt2` file that `write_torch` wrote, in float32 on the CPU. A file of unknown origin could run code."""
    extra_files = {TORCH_EXTRA_FILE: ""}
    program = torch.export.load(path, extra_files=extra_files)
    return program.module(), json.loads(extra_files[TORCH_EXTRA_FILE])


TARGETS = {
    target.name: target
    for target in (
        ExportTarget(
            name="onnx",
            title="ONNX Runtime",
            suffixes=(".onnx",),
            write=write_onnx,
            open=open_onnx,
            devices={"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"},
            packages=("onnx", "onnxscript", "onnxruntime"),
            extra="export",
        ),
        ExportTarget(
            name="openvino",
            title="OpenVINO",
            suffixes=(".xml", ".bin"),
            write=write_openvino,
            open=open_openvino,
            devices={"cpu": "CPU", "gpu": "GPU"},
            dtypes=("fp32", "bf16"),
            packages=("openvino", "onnx", "onnxscript"),
            extra="openvino",
        ),
        ExportTarget(
            name="torch",
            title="torch.export",
            suffixes=(".pt2",),
            write=write_torch,
            open=open_torch,
            devices={"cpu": "cpu"},
            safe=False,
        ),
    )
}


@contextmanager
def _tracing(format_name: str) -> Iterator[None]:
    """Hide the exporters' own warnings; turn a failed tracing into one line."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, NotImplementedError) as error:  # torch's exporters raise subclasses of these
        raise UserError(f"this network cannot be written for {format_name}: {_reason(error)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first informative line of a message; OpenVINO's begin with its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Exception from" not in line]
    return (lines or [type(error).__name__])[0][:300]
