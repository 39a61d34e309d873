"""Metrics, scores of images, mean scores of test sets, and the score cache on disk."""

import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from han_arch import compat, files
from han_arch.errors import UserError
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.sets import load_rgb_or_grey, to_tensor
from han_arch.images.write import encode_png

SSIM_WINDOW = 11  # side of the SSIM window in pixels; a smaller image has no SSIM
# A metric function: (SR, HR, protocol) -> value, or nan if the metric cannot measure these images. SR and HR are
# uint8 and have the same shape: (h, w, 3) RGB or (h, w) grey.
Measure = Callable[[np.ndarray, np.ndarray, Protocol], float]


@dataclass(frozen=True)
class Metric:
    """A metric for SR images."""

    name: str  # name of the metric in option files, in CSV columns and in the cache
    higher_is_better: bool
    digits: int  # number of decimals to print in tables
    measure: Measure | None = None  # None: the optional package pyiqa computes the metric


def _by_basicsr(function: str, least: int, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    """Call a metric of BasicSR. Return nan if the height or width without the border is less than `least` pixels."""
    compat.require_basicsr()
    from basicsr import metrics

    # For images smaller than the border or the window, BasicSR only warns and returns a meaningless number.
    if min(gt.shape[:2]) - 2 * protocol.border < least:
        return math.nan
    on_y = protocol.channel == "Y" and gt.ndim == 3
    bgr = [image[..., None] if image.ndim == 2 else image[..., ::-1] for image in (sr, gt)]
    return float(getattr(metrics, function)(*bgr, crop_border=protocol.border, test_y_channel=on_y))


measure_psnr = partial(_by_basicsr, "calculate_psnr", 1)  # PSNR in dB; inf for equal images
measure_ssim = partial(_by_basicsr, "calculate_ssim", SSIM_WINDOW)
PSNR = Metric("psnr", higher_is_better=True, digits=2, measure=measure_psnr)
SSIM = Metric("ssim", higher_is_better=True, digits=4, measure=measure_ssim)
# Every leaderboard has PSNR and SSIM. The option `perceptual` of a leaderboard adds other metrics.
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
    """Return the names of the metrics that an option file can add to PSNR and SSIM."""
    return [name for name, metric in METRICS.items() if metric not in (PSNR, SSIM)]


@dataclass(frozen=True)
class Score:
    """The score of one image: its PSNR in dB, its SSIM, and the protocol of the measurement."""

    psnr: float
    ssim: float
    protocol: Protocol
    failure: str = field(default="", kw_only=True)  # why the image was not measured: the error; "" if it was measured

    @property
    def finite(self) -> bool:
        """Whether PSNR and SSIM are finite. PSNR is inf for equal images. SSIM is nan for very small images."""
        return math.isfinite(self.psnr) and math.isfinite(self.ssim)

    @property
    def cell(self) -> str:
        """The text for a table cell: PSNR and SSIM, without the protocol; "-" for a value that is nan."""
        if math.isnan(self.psnr) and math.isnan(self.ssim):
            return "-"
        return f"{number(self.psnr, PSNR.digits)} dB / {number(self.ssim, SSIM.digits)}"

    @property
    def reason(self) -> str:
        """Why PSNR or SSIM is not finite; "" if both are finite."""
        if self.finite or self.failure:
            return self.failure
        if math.isinf(self.psnr):
            return "SR equals HR"
        return "the image is too small" if math.isnan(self.psnr) else "the image is smaller than the SSIM window"

    def __str__(self) -> str:
        return f"{self.cell} ({self.protocol})"


@dataclass(frozen=True)
class SetScore(Score):
    """The mean score of a test set. PSNR and SSIM are nan if no image has a finite score."""

    images: int  # number of images in the mean; only images with finite PSNR and SSIM are averaged
    left_out: Mapping[str, Score]  # image name -> score, for the images that are not averaged

    @property
    def note(self) -> str:
        """A text that lists the images that the mean leaves out, with their scores; "" if it leaves out none."""
        left_out = self.left_out.items()
        return "; ".join(f"{name}: {score.cell}, not averaged, because {score.reason}" for name, score in left_out)

    @property
    def share(self) -> str:
        """The text "4 of 5 images" if the mean leaves out an image; "" if it has all images."""
        return f"{self.images} of {self.images + len(self.left_out)} images" if self.left_out else ""

    @property
    def cell(self) -> str:
        """The text for a table cell: PSNR and SSIM, and in how many images they are the mean, unless in all."""
        return f"{super().cell} ({self.share})" if self.share and self.images else super().cell


def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> Score:
    """Measure PSNR and SSIM of an SR image against HR.

    Args:
        sr: the SR image: uint8, (h, w, 3) RGB or (h, w) grey.
        gt: the HR image from `sets.load_gt`. It must have the shape and type of `sr`.
        protocol: the protocol, which sets the channels and the border to cut.

    Raises:
        ValueError: the images have different shapes, or are not uint8.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"the HR and SR images must have the same shape; got {gt.shape} and {sr.shape}")
    if sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"the HR and SR images must be uint8; got {gt.dtype} and {sr.dtype}")
    return Score(measure_psnr(sr, gt, protocol), measure_ssim(sr, gt, protocol), protocol)


def number(value: float, digits: int, sign: bool = False) -> str:
    """Return a number as text with `digits` decimals; "-" for nan. If `sign`, print + before a positive number."""
    return "-" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def finite_mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values; nan if no value is finite."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def mean_score(scores: Mapping[str, Score]) -> SetScore:
    """Return the mean score of a test set's images. Skip images with a PSNR or SSIM of nan or inf.

    Raises:
        ValueError: there are no scores, or their protocols differ.
    """
    protocols = {score.protocol for score in scores.values()}
    if len(protocols) != 1:
        raise ValueError(f"a mean needs scores of the same protocol; got {sorted(map(str, protocols)) or 'no scores'}")
    good = [score for score in scores.values() if score.finite]
    psnr, ssim = finite_mean([score.psnr for score in good]), finite_mean([score.ssim for score in good])
    left_out = {name: score for name, score in scores.items() if not score.finite}
    return SetScore(psnr, ssim, protocols.pop(), len(good), left_out)


def mean_scores(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, SetScore]:
    """Return the mean score of each test set. `scores[SET][IMAGE]` is the score of an image."""
    return {name: mean_score(own) for name, own in scores.items()}


@dataclass(frozen=True)
class MeasuredImage:
    """The score of one image, and the conditions of its measurement (see `cost.describe_conditions`)."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file and a PNG file for each measured image. The first `store` creates the folder.

    Images in the cache are not measured again, so an interrupted leaderboard continues where it stopped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """Return the key of a measurement. `identity` is a hash of the contestant, `image_digest` of the image."""
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> MeasuredImage | None:
        """Load a measurement from the cache; return None if it or its picture is missing, damaged or of another key."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if stored.get("key", key) != key or not self._has_picture(key, stored.get("picture_sha256")):
                return None
            score = Score(float(stored["psnr"]), float(stored["ssim"]), protocol)
            conditions = {str(name): str(value) for name, value in stored["conditions"].items()}
        except Exception:  # a foreign file may raise any exception, such as RecursionError
            return None
        # Older versions stored outputs with nan as black pictures.
        return None if math.isnan(score.psnr) and "key" not in stored else MeasuredImage(score, conditions)

    def _has_picture(self, key: str, sha256: str | None) -> bool:
        if sha256 is None:  # older versions did not store the hash
            self.load_picture(key)
            return True
        return files.hash_file(self.picture(key)) == sha256

    def store(self, key: str, measurement: MeasuredImage, sr: np.ndarray) -> None:
        """Write a measurement and its SR image (uint8, (h, w) grey or (h, w, 3) RGB) to the cache."""
        self.folder.mkdir(parents=True, exist_ok=True)
        png, score = encode_png(sr), measurement.score
        files.write(self.picture(key), png)
        stored: dict[str, Any] = {"key": key, "picture_sha256": hashlib.sha256(png).hexdigest()}
        for name, value in (("psnr", score.psnr), ("ssim", score.ssim)):
            stored[name] = value if math.isfinite(value) else str(value)  # JSON has no nan and inf
        files.write(self.folder / f"{key}.json", files.json_text(stored | {"conditions": measurement.conditions}))

    def load_value(self, key: str, metric: str) -> float | None:
        """Load the value of an optional metric for a measured image; return None if the value is not in the cache."""
        try:
            text = (self.folder / f"{key}.{metric}.txt").read_text("utf-8")
            return float(text) if text.endswith("\n") else None  # a cut file lacks the end of the line
        except (OSError, ValueError):
            return None

    def store_value(self, key: str, metric: str, value: float) -> None:
        """Write the value of an optional metric for a measured image."""
        files.write(self.folder / f"{key}.{metric}.txt", f"{value!r}\n")

    def picture(self, key: str) -> Path:
        """Return the path of the SR image of a measurement."""
        return self.folder / f"{key}.png"

    def load_picture(self, key: str) -> np.ndarray:
        """Load the SR image of a measurement: uint8, (h, w) grey or (h, w, 3) RGB."""
        return load_rgb_or_grey(self.picture(key))


def load_metrics(names: Sequence[str], device: torch.device) -> tuple[dict[str, Measure], list[str]]:
    """Load the functions that compute metrics. The metrics of the package pyiqa run on `device`.

    Returns:
        A mapping from metric names to functions, and a list of messages about skipped metrics. A metric is skipped if
        pyiqa is not installed or could not download the metric's weights.
    """
    loaded = {name: own for name in names if (own := METRICS[name].measure) is not None}
    wanted = [name for name in names if name not in loaded]
    if not wanted:
        return loaded, []
    try:
        # pyiqa prints to standard output while it is imported and while it downloads weights.
        with contextlib.redirect_stdout(io.StringIO()):
            pyiqa = compat.require("pyiqa", "perceptual")
    except UserError as error:
        return loaded, [f"skipped the optional metrics {', '.join(wanted)}: {error}"]
    notes = []
    for name in wanted:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model = pyiqa.create_metric(name, device=device)
        except Exception as error:  # the download of the weights may raise any exception
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(f"skipped the optional metric {name}, because pyiqa could not download the weights: {first}")
        else:
            loaded[name] = _by_pyiqa(model, device)
    return loaded, notes


def _by_pyiqa(model: Callable[..., torch.Tensor], device: torch.device) -> Measure:
    needs_hr = getattr(model, "metric_mode", "FR") == "FR"  # other metrics get only the SR image

    def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        images = [to_tensor(protocol.cut_border(image), device) for image in ((sr, gt) if needs_hr else (sr,))]
        try:
            with torch.inference_mode():
                return float(model(*images))
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            return math.nan  # the metric fails on images that are too small or too smooth

    return measure
