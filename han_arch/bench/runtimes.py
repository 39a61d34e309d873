"""HAN in ONNX Runtime and OpenVINO, as exported files, beside the networks in PyTorch."""

from collections.abc import Callable
from pathlib import Path

import torch

from han_arch.bench.networks import RUNTIME_NAMES, Size, build_ours
from han_arch.errors import UserError
from han_arch.export.runtime import RUNTIMES, load_runtime
from han_arch.export.write import export


def write(names: list[str], size: Size, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Export our network for the runtimes among names; the weights are those of `build`.

    Returns:
        The files by network name, and for those that cannot be had, why.
    """
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    for name in names:
        if name in RUNTIME_NAMES:
            target = RUNTIME_NAMES[name]
            path = folder / f"han{RUNTIMES[target]}"
            torch.manual_seed(0)
            try:
                export(build_ours(size).eval(), "han", target, path)
            except UserError as error:
                failed[name] = str(error)
            else:
                files[name] = path
    return files, failed


def runs(files: dict[str, Path], dtype: str, lr_size: int) -> dict[str, Callable[[], object]]:
    """One inference on lr_size x lr_size for each runtime that computes in dtype; ONNX Runtime has float32 only."""
    lq = torch.rand(1, 3, lr_size, lr_size)
    result: dict[str, Callable[[], object]] = {}
    for name, path in files.items():
        target = RUNTIME_NAMES[name]
        if target == "onnx" and dtype != "float32":
            continue
        net = load_runtime(path, target, dtype=dtype, threads=torch.get_num_threads())
        result[name] = lambda net=net: net(lq)  # type: ignore[misc]
    return result
