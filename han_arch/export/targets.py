"""The table of export targets. Each target has a function that writes a file and a function that opens it.

An exported network accepts any batch size, height and width. Its weights and operations are float32. float16 does
not work: LAM's inner products exceed 1e10 and overflow. bfloat16 has the range of float32, so it works.
"""

import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim
from torch.nn import functional as F

from han_arch.archs.han_arch import HAN
from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.files import json_text
from han_arch.speed.precision import PRECISIONS, Precision

INPUT, OUTPUT = "lq", "output"  # names of the network's input and output in the file
RT_INFO = "han_arch"  # key of this package's metadata in OpenVINO's rt_info
TORCH_EXTRA_FILE = "han_arch.json"  # name of the metadata file inside a .pt2 archive
OPSET = 18  # version of ONNX's operator set; runtimes since 2023 support it
_TRACED_SIZE = (2, 12, 14)  # (batch, height, width); the numbers must differ from each other and from 1
_FREE_SIDES = {INPUT: {0: Dim("batch", min=1), 2: Dim("height", min=1), 3: Dim("width", min=1)}}

Metadata = Mapping[str, str]
# An opened file: a function that runs the network, and the metadata of the file. The function takes a contiguous
# float32 tensor on the CPU, (b, channels, h, w).
OpenedFile = tuple[Callable[[Tensor], Tensor], Metadata]


@dataclass(frozen=True)
class ExportTarget:
    """A file format for exported networks, and the runtime that reads it."""

    name: str  # name of the target in `--to` and `load_runtime`
    title: str  # name of the runtime in messages
    suffixes: tuple[str, ...]  # suffixes of a network's files; the first is the main file
    # Write a network and its metadata to a file; raise UserError if the format cannot express the network.
    write: Callable[[HAN, Path, Metadata], None]
    # Open a file in the runtime; raise UserError if the file is damaged or the device is missing. Arguments: path,
    # name of the device in the runtime, precision, number of processor threads (None: the runtime chooses).
    open: Callable[[Path, str, Precision, int | None], OpenedFile]
    devices: Mapping[str, str]  # device name in `load_runtime` -> device name in the runtime; the first is the default
    precisions: tuple[Precision, ...] = (PRECISIONS["fp32"],)  # precisions of the runtime; the first is the default
    packages: tuple[str, ...] = ()  # packages that are required to write and check a file
    extra: str = ""  # the extra of han_arch that installs these packages
    safe: bool = True  # False: opening a file can run code in it, so `export` opens only the files that it wrote

    @property
    def suffix(self) -> str:
        """The suffix of the main file."""
        return self.suffixes[0]


def picture(net: HAN, size: tuple[int, int, int]) -> Tensor:
    """Make test images for net: smooth shapes with noise, values in [0, 1]. The size is (batch, height, width)."""
    batch, height, width = size
    generator = torch.Generator().manual_seed(batch * 10_000 + height * 100 + width)
    coarse = torch.rand(batch, net.conv_first.in_channels, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def write_onnx(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write an `.onnx` file with the weights and the metadata (in `metadata_props`)."""
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
        raise RuntimeError("torch.onnx.export did not return a program")
    program.model.metadata_props.update(metadata)
    program.save(path)


def open_onnx(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open an `.onnx` file in ONNX Runtime.

    Raises:
        UserError: ONNX Runtime does not support the device or cannot read the file.
    """
    ort = require("onnxruntime", "export")
    if device not in ort.get_available_providers():
        raise UserError(f"this ONNX Runtime lacks {device}; run: pip install onnxruntime-gpu, or use device cpu")
    options = ort.SessionOptions()
    options.log_severity_level = 3  # log errors but no warnings
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=[device])
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise UserError(f"{path} is damaged or not an ONNX network: {_reason(error)}") from error

    def run(lq: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: lq.numpy()})[0])

    return run, dict(session.get_modelmeta().custom_metadata_map)


def write_openvino(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write an `.xml` file with the metadata (in `rt_info`) and a `.bin` file with the weights.

    OpenVINO converts an ONNX file. It can also convert a torch.export program, but the result is slower: PixelShuffle
    takes three passes over the largest feature map, and bfloat16 runs at half the speed.
    """
    onnx_path = path.with_suffix(".onnx")
    write_onnx(net, onnx_path, metadata)
    openvino_from_onnx(onnx_path, path, metadata)
    onnx_path.unlink()


def openvino_from_onnx(onnx_path: Path, path: Path, metadata: Metadata) -> None:
    """Convert an ONNX file to OpenVINO's `.xml` and `.bin` files, with float32 weights."""
    openvino = require("openvino", "openvino")
    model = openvino.convert_model(str(onnx_path))
    for key, value in metadata.items():
        model.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(model, path, compress_to_fp16=False)


_CORE_LOCK = threading.Lock()  # makes several threads get the same core


@cache
def _openvino_core(openvino: ModuleType) -> Any:
    """Return the one OpenVINO core of this process. The core is never freed.

    A core sets the stack for signal handlers. If two cores exist at the same time, or another thread frees a core, this
    stack is freed but still used (in OpenVINO 2026.4). Then the next signal crashes the process.
    For example, the end of a data worker (a process that loads data) sends a signal.
    """
    return openvino.Core()


def open_openvino(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open an `.xml` file in OpenVINO. Its `.bin` file must be in the same folder.

    Raises:
        FileNotFoundError: the `.bin` file does not exist.
        UserError: OpenVINO does not support the device or cannot read the file.
    """
    openvino = require("openvino", "openvino")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise FileNotFoundError(f"the file {weights} does not exist; {path.name} needs it in the same folder")
    with _CORE_LOCK:
        core = _openvino_core(openvino)
    if not any(found.split(".")[0] == device for found in core.available_devices):
        raise UserError(
            f"OpenVINO does not find the device {device} on this machine; it finds {', '.join(core.available_devices)}"
        )
    # Without this setting, OpenVINO computes in bfloat16 on processors that have instructions for it.
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
    lock = threading.Lock()  # all threads share one request, which can run only one input at a time

    def run(lq: Tensor) -> Tensor:
        with lock:
            return torch.from_numpy(request.infer([lq.numpy()], share_inputs=True)[0])

    return run, metadata


def write_torch(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write a torch.export program (`.pt2`) with the metadata in the entry `han_arch.json`."""
    with _tracing("torch.export"):
        program = torch.export.export(net, (picture(net, _TRACED_SIZE),), dynamic_shapes=_FREE_SIDES)
        torch.export.save(program, path, extra_files={TORCH_EXTRA_FILE: json_text(metadata, indent=1)})


def open_torch(path: Path, device: str, precision: Precision, threads: int | None) -> OpenedFile:
    """Open a `.pt2` file in float32 on the CPU. Warning: a file that `write_torch` did not write could run code."""
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
            precisions=(PRECISIONS["fp32"], PRECISIONS["bf16"]),
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
    """Hide the warnings of the exporters, and turn their errors into a UserError with a one-line message."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, NotImplementedError) as error:  # the errors of torch's exporters are subclasses of these two
        raise UserError(f"the network cannot be exported to {format_name}: {_reason(error)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Return the first useful line of an error message. OpenVINO's messages start with names of source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Exception from" not in line]
    return (lines or [type(error).__name__])[0][:300]
