"""Export a network: write the file, check its pixels, and only then give it its name."""

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
from han_arch.version import __version__

# (batch, height, width): odd sides, more than one image, upright and landscape; none is the traced size.
SIZES = ((1, 17, 23), (2, 21, 30), (1, 40, 11))
STEPS = 1 + len(SIZES)  # how often `export` calls `done`
TOLERANCE = 0.01  # on 0..255; float32 rounding gives at most 1e-3, and an 8-bit image shows half a level


@dataclass(frozen=True)
class Check:
    """The comparison with PyTorch on one picture."""

    size: tuple[int, int, int]  # (batch, height, width) of the input
    difference: float  # the largest on 0..255; NaN when the outputs differ in shape or are not finite

    @property
    def passed(self) -> bool:
        """Whether the difference is within TOLERANCE; NaN is not."""
        return self.difference <= TOLERANCE

    def __str__(self) -> str:
        batch, height, width = self.size
        return f"{batch} x {height} x {width}: largest difference {self.difference:.1e} of 255"


def output_path(source: str, target: str, out: Path | None) -> Path:
    """Return where to write: `out`, in the folder `out` (a name without suffix), or in the current folder.

    Raises:
        UserError: out has a suffix other than the target's.
    """
    suffix = TARGETS[target].suffix
    path = Path(source)
    default = f"{path.stem if path.is_file() else path.name}{suffix}"
    if out is None or out.is_dir() or not out.suffix:
        return (out or Path()) / default
    if out.suffix != suffix:
        raise UserError(f"--to {target} writes {suffix} files; got {out}")
    return out


def export(
    net: HAN,
    source: str,
    target: str,
    path: Path,
    overwrite: bool = False,
    done: Callable[[str], None] = lambda step: None,
) -> list[Check]:
    """Write net for a runtime, and compare that runtime's pixels with PyTorch's on three sizes.

    Args:
        net: the network, on the CPU in float32.
        source: name or path that it came from, for the metadata.
        target: a name of `TARGETS`: "onnx", "openvino" or "torch".
        path: the file; OpenVINO's weights go beside it as `.bin`.
        overwrite: replace existing files.
        done: callback with the finished step in words; called STEPS times.

    Returns:
        The comparisons; all are within TOLERANCE.

    Raises:
        FileExistsError: the file exists, and overwrite is False.
        UserError: a package is missing, the folder cannot be written, the network cannot be exported, or the written
            file gives other pixels. No file is left behind.
    """
    kind = TARGETS[target]
    finals = [path.with_suffix(suffix) for suffix in kind.suffixes]
    existing = [final for final in finals if final.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; --overwrite replaces it")
    for package in kind.packages:  # before the minutes that tracing takes
        require(package, kind.extra)
    with ExitStack() as stack:
        with clear_refusal(path.parent, "choose another folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(working_folder(path))
        written = folder / path.name
        kind.write(net, written, describe(net, source))
        done("written")
        run = Runtime(kind.open(written, next(iter(kind.devices.values())), kind.precisions[0], None), written)
        checks = []
        for size in SIZES:
            checks.append(check(net, run, size))
            done("checked")
        failed = [result for result in checks if not result.passed]
        if failed:
            raise UserError(
                f"the {target} file gives other pixels than PyTorch ({failed[0]}, allowed {TOLERANCE}); it was removed"
            )
        for final in reversed(finals):  # OpenVINO's weights first: the .xml never appears without them
            os.replace(written.with_suffix(final.suffix), final)
    return checks


def check(net: HAN, run: Callable[[Tensor], Tensor], size: tuple[int, int, int]) -> Check:
    """Compare run with net, which is the float32 reference, on one picture of (batch, height, width)."""
    lq = picture(net, size)
    with torch.no_grad():
        expected, got = net(lq), run(lq)
    same_shape = got.shape == expected.shape
    return Check(size, float(255 * (got - expected).abs().max()) if same_shape else float("nan"))


def psnr(net: HAN, run: Callable[[Tensor], Tensor]) -> float:
    """Return the PSNR, in dB, of run's output against net's on a 48 x 48 picture: the loss of a coarser precision."""
    lq = picture(net, (1, 48, 48))
    with torch.no_grad():
        error = (net(lq) - run(lq)).double().square().mean()
    return float(-10 * torch.log10(error))


def describe(net: HAN, source: str) -> dict[str, str]:
    """Return the metadata of an exported network; for a file as source, they hold its name and SHA-256."""
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
    """Return a SHA-256 over the weights' names, dtypes, shapes and bytes: equal weights have it in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
