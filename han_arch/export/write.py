"""Export a network: write a temporary file, check its output, and then rename it to its final name."""

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.export.runtime import Runtime
from han_arch.export.targets import INPUT, OUTPUT, TARGETS, picture
from han_arch.files import clear_refusal, hash_file, working_folder
from han_arch.locks import held
from han_arch.version import __version__

# (batch, height, width) of the test images: odd sides, a batch of 2, portrait and landscape. The image that PyTorch
# traces has another size.
SIZES = ((1, 17, 23), (2, 21, 30), (1, 40, 11))
STEPS = 1 + len(SIZES)  # number of times that `export` calls `done`
# Largest allowed difference of a pixel value on the 0..255 scale. Rounding in float32 causes at most 1e-3, rounding to
# 8 bits up to 0.5.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Check:
    """The comparison of an exported network with PyTorch on one test image."""

    size: tuple[int, int, int]  # (batch, height, width) of the test image
    difference: float  # largest difference on the 0..255 scale; NaN if the shapes differ

    @property
    def passed(self) -> bool:
        """Whether the difference is at most TOLERANCE. NaN does not pass."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        batch, height, width = self.size
        return f"batch {batch}, {height} x {width} pixels: largest difference {self.difference:.1e} on the 0..255 scale"


def output_path(source: str, target: str, out: Path | None) -> Path:
    """Return the path of the file to write.

    Args:
        source: name or path of the network, which gives the default file name.
        target: name in `TARGETS`.
        out: file or folder. A path without suffix is a folder. None: the current folder.

    Raises:
        UserError: the file `out` does not have the suffix of the target.
    """
    suffix = TARGETS[target].suffix
    path = Path(source)
    default = f"{path.stem if path.is_file() else path.name}{suffix}"
    if out is None or out.is_dir() or not out.suffix:
        return (out or Path()) / default
    if out.suffix != suffix:
        raise UserError(f"with --to {target}, the file of --out must end in {suffix}; got {out}")
    return out


def export(
    net: HAN,
    source: str,
    target: str,
    path: Path,
    overwrite: bool = False,
    done: Callable[[str], None] = lambda step: None,
) -> list[Check]:
    """Export a network to a file, and compare the file's output with PyTorch's on three test images.

    Args:
        net: the network, on the CPU in float32.
        source: name or path of the network, for the metadata.
        target: name in `TARGETS`: "onnx", "openvino" or "torch".
        path: the file to write. For OpenVINO, the weights are written to a `.bin` file with the same stem.
        done: callback that receives the name of each finished step; it is called STEPS times.

    Returns:
        One comparison for each test image. Every difference is at most TOLERANCE.

    Raises:
        FileExistsError: the file exists before or after the work, and overwrite is False.
        UserError: a package is missing, another process exports to this path, the folder cannot be written, the network
            cannot be exported, or the file's output differs from PyTorch's. After an error, an existing file is
            unchanged and no partial file remains.
    """
    kind = TARGETS[target]
    finals = [path.with_suffix(suffix) for suffix in kind.suffixes]

    def refuse_to_overwrite() -> None:
        existing = [final for final in finals if os.path.lexists(final)]
        if existing and not overwrite:
            raise FileExistsError(f"{existing[0]} already exists; pass --overwrite to replace it")

    refuse_to_overwrite()
    for package in kind.packages:  # check packages first, because the tracing takes minutes
        require(package, kind.extra)
    with ExitStack() as stack:
        with clear_refusal(path.parent, "choose another folder"):
            stack.enter_context(held(path, f"the export of {path}"))
            folder = stack.enter_context(working_folder(path))
        written = folder / path.name
        kind.write(net, written, describe(net, source))
        done("written")
        run = Runtime(kind.open(written, next(iter(kind.devices.values())), kind.precisions[0], None), written)
        checks = []
        for size in SIZES:
            checks.append(check(net, run, size))
            done("checked")
        for result in checks:
            if not result.passed:
                raise UserError(
                    f"the {target} file was removed, because its output differs from PyTorch's "
                    f"by more than {TOLERANCE}; {result}"
                )
        refuse_to_overwrite()  # the work takes minutes, and the files may be new
        for final in reversed(finals):  # rename OpenVINO's weights first, so that the .xml never exists without them
            os.replace(written.with_suffix(final.suffix), final)
    return checks


def check(net: HAN, run: Callable[[Tensor], Tensor], size: tuple[int, int, int]) -> Check:
    """Compare an exported network `run` with PyTorch's `net` on test images of the size (batch, height, width)."""
    lq = picture(net, size)
    with torch.no_grad():
        expected, got = net(lq), run(lq)
    same_shape = got.shape == expected.shape
    return Check(size, float(255 * (got - expected).abs().max()) if same_shape else float("nan"))


def psnr(net: HAN, run: Callable[[Tensor], Tensor]) -> float:
    """Compare `run` (the exported network) with `net` (in PyTorch) on a 48 x 48 test image. Return the PSNR in dB."""
    lq = picture(net, (1, 48, 48))
    with torch.no_grad():
        error = (net(lq) - run(lq)).double().square().mean()
    return float(-10 * torch.log10(error))


def describe(net: HAN, source: str) -> dict[str, str]:
    """Return the metadata for an exported file. If source is a file, the metadata contain its name and SHA-256."""
    path = Path(source)
    channels = net.conv_first.in_channels
    metadata = {
        "scale": str(net.upscale),
        "num_in_ch": str(channels),
        "num_feat": str(net.conv_last.in_channels),
        "num_group": str(len(net.body)),
        "input": f"{INPUT}: float32 (batch, {channels}, height, width), {'RGB' if channels == 3 else 'grey'} in [0, 1]",
        "output": f"{OUTPUT}: float32 (batch, {channels}, scale*height, scale*width), in [0, 1] but not clamped",
        "source": path.name if path.is_file() else source,
        "weights_sha256": weights_hash(net),
        "written_by": f"han_arch {__version__}, PyTorch {torch.__version__}",
    }
    if path.is_file():
        metadata["source_sha256"] = hash_file(path)
    return metadata


def weights_hash(net: torch.nn.Module) -> str:
    """Return the SHA-256 of the weights' names, dtypes, shapes and values. The file format does not change the hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
