"""Exported networks in their own runtimes, behind one callable: `load_runtime(path, runtime)`.

What it returns maps a float32 tensor (b, num_in_ch, h, w) in [0, 1] to (b, num_in_ch, scale*h, scale*w), not clamped,
as the network in PyTorch does, and may be called from several threads.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from han_arch.errors import UserError
from han_arch.export.metadata import INPUT, RT_INFO, scale_and_channels

RUNTIMES = {"onnx": ".onnx", "openvino": ".xml"}
EXTRAS = {"onnx": "export", "openvino": "openvino"}
DTYPES = ("float32", "bfloat16")
_ORT_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_OPENVINO_DEVICES = {"cpu": "CPU", "gpu": "GPU"}


class Runtime(Protocol):
    """A network in some runtime. `metadata` is what the file says of itself."""

    scale: int
    num_in_ch: int
    metadata: Mapping[str, str]

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve lq, (b, num_in_ch, h, w) in [0, 1] -> (b, num_in_ch, scale*h, scale*w), not clamped."""
        ...


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
        dtype: what the runtime computes in; "bfloat16" with OpenVINO only, whose own default on processors with
            bfloat16 instructions would be that.
        threads: processor threads; None is the runtime's choice.
        device: "cpu"; "cuda" with ONNX Runtime; "gpu" (Intel's) with OpenVINO.

    Raises:
        FileNotFoundError: no such file.
        UserError: an argument out of its range, the runtime is not installed, or the file is damaged or foreign.
    """
    path = Path(path)
    if runtime not in RUNTIMES:
        raise UserError(f"runtime must be one of {', '.join(RUNTIMES)}; got {runtime!r}")
    if dtype not in DTYPES:
        raise UserError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype!r}")
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1; got {threads}")
    if not path.is_file():
        raise FileNotFoundError(f"no such exported network: {path}")
    if path.suffix != RUNTIMES[runtime]:
        raise UserError(f"{path}: runtime {runtime} reads {RUNTIMES[runtime]} files; write one with basicsr export")
    kind = OnnxRuntime if runtime == "onnx" else OpenVinoRuntime
    return kind(path, dtype=dtype, threads=threads, device=device)


class OnnxRuntime:
    """A `.onnx` file in ONNX Runtime; see `load_runtime` for arguments and errors."""

    def __init__(self, path: Path, *, dtype: str, threads: int | None, device: str) -> None:
        ort = require("onnxruntime", "onnx")
        if dtype != "float32":
            raise UserError(f"ONNX Runtime computes in float32 here; got {dtype} (--runtime openvino has bfloat16)")
        provider = _choice(device, _ORT_PROVIDERS, "ONNX Runtime")
        if provider not in ort.get_available_providers():
            raise UserError(f"this ONNX Runtime has no {provider}; pip install onnxruntime-gpu, or use device cpu")
        options = ort.SessionOptions()
        options.log_severity_level = 3  # errors; the exception tells them again
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # its exceptions have no base of their own
            raise UserError(f"{path} is damaged or no ONNX network that can be run: {_reason(error)}") from error
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self.scale, self.num_in_ch = scale_and_channels(self.metadata, path)

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve; see `Runtime`."""
        return torch.from_numpy(self._session.run(None, {INPUT: _as_array(lq, self.num_in_ch)})[0])


class OpenVinoRuntime:
    """An OpenVINO `.xml` file; see `load_runtime` for arguments and errors."""

    def __init__(self, path: Path, *, dtype: str, threads: int | None, device: str) -> None:
        openvino = require("openvino", "openvino")
        name = _choice(device, _OPENVINO_DEVICES, "OpenVINO")
        if not path.with_suffix(".bin").is_file():
            raise FileNotFoundError(f"no weights beside {path}: {path.with_suffix('.bin').name} is missing")
        core = openvino.Core()
        if not any(found.split(".")[0] == name for found in core.available_devices):
            raise UserError(f"OpenVINO finds no device {name} here; it has {', '.join(core.available_devices)}")
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "bf16" if dtype == "bfloat16" else "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            model = core.read_model(path)
            self.metadata: Mapping[str, str] = _rt_info(model)
            self.scale, self.num_in_ch = scale_and_channels(self.metadata, path)
            self._request = core.compile_model(model, name, settings).create_infer_request()
        except RuntimeError as error:
            raise UserError(f"{path} is damaged or no network that can be run: {_reason(error)}") from error
        self._lock = threading.Lock()  # one request, so that its working memory stands once

    def __call__(self, lq: Tensor) -> Tensor:
        """Super-resolve; see `Runtime`."""
        values = _as_array(lq, self.num_in_ch)
        with self._lock:
            return torch.from_numpy(self._request.infer([values], share_inputs=True)[0])


def require(package: str, target: str) -> Any:
    """Import a package of one of our extras.

    Raises:
        UserError: it is not installed; says how to install it.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise UserError(
            f"{package} cannot be imported ({error}); run: pip install 'han_arch[{EXTRAS.get(target, target)}]', or "
            f"pip install {package}"
        ) from error


def _choice(device: str, known: dict[str, str], what: str) -> str:
    if device not in known:
        raise UserError(f"{what} runs on {' or '.join(known)}; got device {device!r}")
    return known[device]


def _rt_info(model: Any) -> dict[str, str]:
    if not model.has_rt_info([RT_INFO]):
        return {}
    return {key: str(value.value) for key, value in model.get_rt_info()[RT_INFO].items()}


def _as_array(lq: Tensor, channels: int) -> np.ndarray:
    if lq.dim() != 4 or lq.shape[1] != channels:
        raise ValueError(f"lq must be (b, {channels}, h, w); got {tuple(lq.shape)}")
    return lq.detach().to("cpu", torch.float32).contiguous().numpy()


def _reason(error: BaseException) -> str:
    """The first line that says something; OpenVINO's messages begin with its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "Exception from" not in line]
    return (lines or [type(error).__name__])[0][:300]
