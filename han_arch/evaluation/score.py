"""The table of metrics, scores of images and their means, and their cache on disk."""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from han_arch import compat, files
from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import load_rgb_or_grey, to_tensor
from han_arch.images.write import encode_png

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


def _by_basicsr(function: str, least: int, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    """Call BasicSR's metric on the protocol's channel without its border; nan below `least` pixels of a side."""
    compat.require_basicsr()
    from basicsr import metrics

    # BasicSR warns and returns a meaningless number for images smaller than the border or the window.
    if min(gt.shape[:2]) - 2 * protocol.border < least:
        return math.nan
    on_y = protocol.channel == "Y" and gt.ndim == 3
    bgr = [image[..., None] if image.ndim == 2 else image[..., ::-1] for image in (sr, gt)]
    return float(getattr(metrics, function)(*bgr, crop_border=protocol.border, test_y_channel=on_y))


measure_psnr = partial(_by_basicsr, "calculate_psnr", 1)  # in dB; inf for equal images
measure_ssim = partial(_by_basicsr, "calculate_ssim", SSIM_WINDOW)
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


@dataclass(frozen=True)
class Score:
    """The score of one image: PSNR in dB and SSIM against HR, and their protocol."""

    psnr: float
    ssim: float
    protocol: Protocol

    @property
    def finite(self) -> bool:
        """Whether both are numbers: equal images have PSNR inf, images smaller than the window SSIM nan."""
        return math.isfinite(self.psnr) and math.isfinite(self.ssim)

    @property
    def cell(self) -> str:
        """Both numbers, for a table; its heading names the protocol."""
        return f"{self.psnr:.{PSNR.digits}f} dB / {self.ssim:.{SSIM.digits}f}"

    def __str__(self) -> str:
        return f"{self.cell} ({self.protocol})"


@dataclass(frozen=True)
class SetScore(Score):
    """The mean over the images of a set with finite metrics (nan when there is none), their number, and the others."""

    images: int
    left_out: Mapping[str, Score]

    @property
    def note(self) -> str:
        """The images that are not in the mean; "" when all are."""
        return "; ".join(f"{name}: {score.cell}, not averaged" for name, score in self.left_out.items())


def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> Score:
    """Score an image against HR, both uint8, (h, w, 3) RGB or (h, w) grey; `Protocol.cut_gt` has cut HR.

    Grey images are compared directly whatever the protocol's grey rule is; `sets.load_gt` follows the rule.

    Raises:
        ValueError: different shapes, or not uint8.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"the image must be as large as HR, {gt.shape}; got {sr.shape}")
    if sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"both images must be uint8, 0..255; got {sr.dtype} and {gt.dtype}")
    return Score(measure_psnr(sr, gt, protocol), measure_ssim(sr, gt, protocol), protocol)


def mean_score(scores: Mapping[str, Score]) -> SetScore:
    """Average a set's scores (image name -> score); leave out and name images with nan or inf.

    Raises:
        ValueError: no score, or scores of several protocols.
    """
    protocols = {score.protocol for score in scores.values()}
    if len(protocols) != 1:
        raise ValueError(f"a mean needs scores of one protocol; got {sorted(map(str, protocols)) or 'no scores'}")
    good = [score for score in scores.values() if score.finite]
    psnr = float(np.mean([score.psnr for score in good])) if good else math.nan
    ssim = float(np.mean([score.ssim for score in good])) if good else math.nan
    left_out = {name: score for name, score in scores.items() if not score.finite}
    return SetScore(psnr, ssim, protocols.pop(), len(good), left_out)


def mean_scores(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, SetScore]:
    """Return the mean of each set (set -> image -> score)."""
    return {name: mean_score(own) for name, own in scores.items()}


@dataclass(frozen=True)
class MeasuredImage:
    """The score of one image and the conditions of its measurement, see `cost.describe_conditions`."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file and a PNG file for each measured image; the first `store` makes it.

    An interrupted board continues from it, and only a new contestant is measured.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """Return the name of a measurement: a hash of weights and options, variant, protocol and pixels."""
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> MeasuredImage | None:
        """Load a measurement; None where it is missing or damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if not self.picture(key).is_file():
                return None
            score = Score(float(stored["psnr"]), float(stored["ssim"]), protocol)
            return MeasuredImage(score, dict(stored["conditions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, key: str, measurement: MeasuredImage, sr: np.ndarray) -> None:
        """Write a measurement and its image, uint8, (h, w) or (h, w, 3) RGB."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.picture(key), encode_png(sr))
        score = measurement.score
        text = json.dumps({"psnr": score.psnr, "ssim": score.ssim, "conditions": measurement.conditions})
        files.write(self.folder / f"{key}.json", text)

    def load_value(self, key: str, metric: str) -> float | None:
        """Load an optional metric of the image; None where it is missing."""
        try:
            return float((self.folder / f"{key}.{metric}.txt").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def store_value(self, key: str, metric: str, value: float) -> None:
        """Write an optional metric of the image."""
        files.write(self.folder / f"{key}.{metric}.txt", repr(value))

    def picture(self, key: str) -> Path:
        """Return the path of the SR image."""
        return self.folder / f"{key}.png"

    def load_picture(self, key: str) -> np.ndarray:
        """Load the SR image: uint8, (h, w) or (h, w, 3) RGB."""
        return load_rgb_or_grey(self.picture(key))


def load_metrics(names: Sequence[str], device: torch.device) -> tuple[dict[str, Measure], list[str]]:
    """Load some of `METRICS`, pyiqa's on a device.

    Returns:
        Name -> function, and one line for each metric that is skipped: pyiqa or its weights are missing.
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
