"""The table of metrics, one record each; scores, cache, option checks, tables and page read it."""

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from han_arch import compat
from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import to_tensor

SSIM_WINDOW = 11  # pixels; a smaller image has no SSIM
# SR and HR of one shape, uint8, (h, w, 3) RGB or (h, w) grey -> the value; nan where the images have none.
Measure = Callable[[np.ndarray, np.ndarray, Protocol], float]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: in option files, CSV columns and the cache.
        higher_is_better: the direction.
        digits: decimals in a table.
        measure: the function; None takes the metric of that name from the optional package pyiqa.
    """

    name: str
    higher_is_better: bool
    digits: int
    measure: Measure | None = None


def measure_psnr(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    """BasicSR's PSNR in dB, on the protocol's channel without its border; inf for equal images."""
    return _by_basicsr("calculate_psnr", 1, sr, gt, protocol)


def measure_ssim(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    """BasicSR's SSIM, on the protocol's channel without its border; nan below `SSIM_WINDOW` pixels of a side."""
    return _by_basicsr("calculate_ssim", SSIM_WINDOW, sr, gt, protocol)


PSNR = Metric("psnr", higher_is_better=True, digits=2, measure=measure_psnr)
SSIM = Metric("ssim", higher_is_better=True, digits=4, measure=measure_ssim)
# Every board has PSNR and SSIM; an option file asks for the others.
METRICS = {
    metric.name: metric
    for metric in (
        PSNR,
        SSIM,
        Metric("lpips", higher_is_better=False, digits=4),
        Metric("dists", higher_is_better=False, digits=4),
        Metric("niqe", higher_is_better=False, digits=4),
    )
}


def optional_names() -> list[str]:
    """List the metrics that an option file can add to PSNR and SSIM."""
    return [name for name, metric in METRICS.items() if metric not in (PSNR, SSIM)]


def load(names: Sequence[str], device: torch.device) -> tuple[dict[str, Measure], list[str]]:
    """Load metrics, and skip those of pyiqa that are not available.

    Args:
        names: keys of `METRICS`.
        device: where pyiqa's models run.

    Returns:
        Name -> function, and one line for each skip: the package or its weights are missing.
    """
    measures = {name: METRICS[name].measure for name in names}
    loaded = {name: measure for name, measure in measures.items() if measure is not None}
    wanted = [name for name in names if name not in loaded]
    if not wanted:
        return loaded, []
    try:
        # pyiqa prints while it is imported and while it downloads weights.
        with contextlib.redirect_stdout(io.StringIO()):
            pyiqa = compat.require("pyiqa", "perceptual")
    except UserError as error:
        return loaded, [f"skipped {', '.join(wanted)}: {error}"]
    notes = []
    for name in wanted:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model = pyiqa.create_metric(name, device=device)
        except Exception as error:  # whatever the download of its weights raises
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(f"skipped {name}: pyiqa could not download its weights: {first}")
            continue
        loaded[name] = _by_pyiqa(model, device)
    return loaded, notes


def _by_basicsr(function: str, least: int, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    compat.require_basicsr()
    from basicsr import metrics

    # BasicSR warns and returns a meaningless number for images smaller than the border or the window.
    if min(gt.shape[:2]) - 2 * protocol.border < least:
        return math.nan
    on_y = protocol.channel == "Y" and gt.ndim == 3
    bgr = [image[..., None] if image.ndim == 2 else image[..., ::-1] for image in (sr, gt)]
    return float(getattr(metrics, function)(*bgr, crop_border=protocol.border, test_y_channel=on_y))


def _by_pyiqa(model: Callable[..., torch.Tensor], device: torch.device) -> Measure:
    """Measure on RGB without the protocol's border, against HR unless the metric needs no reference."""
    needs_hr = getattr(model, "metric_mode", "FR") == "FR"

    def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        images = [to_tensor(protocol.cut_border(image), device) for image in ((sr, gt) if needs_hr else (sr,))]
        try:
            with torch.inference_mode():
                return float(model(*images))
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            return math.nan  # the image is too small or too smooth for the metric

    return measure
