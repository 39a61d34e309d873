"""Writes a network as an ONNX, OpenVINO or torch.export file whose batch, height and width are free.

The graph is float32 throughout. LAM's inner products reach 1e10, so a runtime that is told to compute in float16 makes
every pixel NaN; bfloat16 has float32's range.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.export.check import picture
from han_arch.export.metadata import INPUT, OUTPUT, RT_INFO, TORCH_EXTRA_FILE
from han_arch.export.runtime import load_runtime, require

OPSET = 18  # ONNX's operator set; runtimes since 2023 have it
_TRACED_SIZE = (2, 12, 14)  # batch, height, width; any that differ from each other and from 1

Metadata = dict[str, str]
Run = Callable[[Tensor], Tensor]


def write_onnx(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write one `.onnx` file, weights and metadata (`metadata_props`) in it.

    Raises:
        UserError: onnx or onnxscript is not installed, or the network has a part that cannot be written.
    """
    require("onnx", "onnx")
    require("onnxscript", "onnx")
    with _tracing("ONNX"):
        program = torch.onnx.export(
            net,
            (_example(net),),
            dynamo=True,
            dynamic_shapes=_free_sides(),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.model.metadata_props.update(metadata)
    program.save(path)


def write_openvino(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write a `.xml` file with metadata (`rt_info`) and its `.bin` with the weights, by way of ONNX.

    OpenVINO can read torch.export's program itself, but then runs PixelShuffle as three passes over the largest map and
    is half as fast in bfloat16.

    Raises:
        UserError: as `write_onnx`, or OpenVINO is not installed.
    """
    require("openvino", "openvino")  # said before the minutes that tracing takes
    onnx_path = path.with_suffix(".onnx")
    write_onnx(net, onnx_path, metadata)
    openvino_from_onnx(onnx_path, path, metadata)
    onnx_path.unlink()


def openvino_from_onnx(onnx_path: Path, path: Path, metadata: Metadata) -> None:
    """Write what an ONNX file holds as OpenVINO's `.xml` and `.bin`, the weights in float32."""
    openvino = require("openvino", "openvino")
    model = openvino.convert_model(str(onnx_path))
    for key, value in metadata.items():
        model.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(model, path, compress_to_fp16=False)


def write_torch(net: HAN, path: Path, metadata: Metadata) -> None:
    """Write a torch.export program (`.pt2`), metadata as JSON in its extra file `han_arch.json`.

    Raises:
        UserError: the network has a part that cannot be traced.
    """
    with _tracing("torch.export"):
        program = torch.export.export(net, (_example(net),), dynamic_shapes=_free_sides())
        torch.export.save(program, path, extra_files={TORCH_EXTRA_FILE: json.dumps(metadata, indent=1)})


def open_torch(path: Path) -> Run:
    """A `.pt2` file that we have just written as a callable. Of a stranger's file it could run code."""
    program: ExportedProgram = torch.export.load(path)
    return program.module()


def open_written(path: Path, target: str) -> Run:
    """A file that one of the functions above wrote, in its own runtime."""
    return open_torch(path) if target == "torch" else load_runtime(path, target)


WRITERS: dict[str, Callable[[HAN, Path, Metadata], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torch": write_torch,
}
# What each leaves; the first is the name a user gives.
SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin"), "torch": (".pt2",)}


def _example(net: HAN) -> Tensor:
    batch, height, width = _TRACED_SIZE
    return picture(batch, net.conv_first.in_channels, height, width)


def _free_sides() -> dict[str, dict[int, Dim]]:
    names = {0: "batch", 2: "height", 3: "width"}
    return {INPUT: {axis: Dim(name, min=1) for axis, name in names.items()}}


@contextmanager
def _tracing(what: str) -> Iterator[None]:
    """The exporters' remarks are not the user's; what they cannot trace is told in one line."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, NotImplementedError) as error:  # torch's exporters raise subclasses of these
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"this network cannot be written for {what}: {line}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
