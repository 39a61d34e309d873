"""Write, check, accept: an exported file takes its name only after it gave the same pixels as PyTorch."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.export.check import SIZES, TOLERANCE, Check, check
from han_arch.export.metadata import describe
from han_arch.export.targets import SUFFIXES, WRITERS, open_written

STEPS = 1 + len(SIZES)  # how often `done` is called


def output_path(source: str, target: str, out: Path | None) -> Path:
    """Where the file goes: `out`; in the folder `out` (one without a suffix); by default in the current folder.

    Raises:
        UserError: out has another suffix than the target's.
    """
    suffix = SUFFIXES[target][0]
    named = Path(Path(source).name)
    default = named.with_suffix(suffix) if Path(source).is_file() else Path(f"{named}{suffix}")
    if out is None:
        return default
    if out.is_dir() or not out.suffix:
        return out / default.name
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
    """Write net for a runtime, compare it with PyTorch on three sizes there, and only then give the file its name.

    Args:
        net: the network, on the CPU in float32.
        source: name or path that it came from, for the metadata.
        target: "onnx", "openvino" or "torch".
        path: the file; OpenVINO's weights stand beside it as `.bin`.
        overwrite: replace files of that name.
        done: told in words what was finished; called STEPS times.

    Returns:
        What was compared; all within TOLERANCE.

    Raises:
        FileExistsError: the file is there, and overwrite is not given.
        UserError: a package is missing, the folder cannot be written, the network cannot be exported, or the written
            file gives other pixels; nothing is left behind.
    """
    finals = [path.with_suffix(suffix) for suffix in SUFFIXES[target]]
    existing = [final for final in finals if final.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists; give --overwrite to replace it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=f".{path.stem}.", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write into {path.parent}: {error.strerror or error}") from error
    with folder as name:
        written = Path(name) / path.name
        WRITERS[target](net, written, describe(net, source))
        done("written")
        checks = _checks(net, written, target, done)
        for final in reversed(finals):  # OpenVINO's weights first: the .xml then never stands without them
            os.replace(written.with_suffix(final.suffix), final)
    return checks


def _checks(net: HAN, written: Path, target: str, done: Callable[[str], None]) -> list[Check]:
    run = open_written(written, target)
    checks = []
    for size in SIZES:
        checks.append(check(net, run, size))
        done("checked")
    failed = [result for result in checks if not result.passed]
    if failed:
        raise UserError(
            f"the {target} file gives other pixels than PyTorch ({failed[0]}, allowed {TOLERANCE}); it was not kept"
        )
    return checks
