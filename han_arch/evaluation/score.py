"""The table of metrics, the scores of images, the mean scores of test sets, and the score cache on disk."""

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

SSIM_WINDOW = 11  # side of the SSIM window in pixels; a smaller image has no SSIM
# A metric function: (SR, HR, protocol) -> value, or nan if the metric cannot measure these images. SR and HR are
# uint8 and have the same shape: (h, w, 3) RGB or (h, w) grey.
Measure = Callable[[np.ndarray, np.ndarray, Protocol], float]


@dataclass(frozen=True)
class Metric:
    """One metric of the table `METRICS`.

    Attributes:
        name: name of the metric in option files, in CSV columns and in the cache.
        higher_is_better: whether a higher value means a better image.
        digits: number of decimals in a table.
        measure: the metric's function. None: use the metric with this name from the optional package pyiqa.
    """

    name: str
    higher_is_better: bool
    digits: int
    measure: Measure | None = None


def _by_basicsr(function: str, least: int, sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
    """Call a metric function of BasicSR on the protocol's channel, after the border is cut.

    Return nan if a side of the cut image is shorter than `least` pixels.
    """
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
# Every leaderboard has PSNR and SSIM. The other metrics are optional: option `perceptual` lists them.
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
    """The score of one image: its PSNR in dB and its SSIM against HR, and the protocol of both."""

    psnr: float
    ssim: float
    protocol: Protocol

    @property
    def finite(self) -> bool:
        """Whether PSNR and SSIM are both finite.

        PSNR is inf for equal images. SSIM is nan for images smaller than its window.
        """
        return math.isfinite(self.psnr) and math.isfinite(self.ssim)

    @property
    def cell(self) -> str:
        """PSNR and SSIM as text for a table cell, without the protocol, which is in the table's heading."""
        return f"{self.psnr:.{PSNR.digits}f} dB / {self.ssim:.{SSIM.digits}f}"

    def __str__(self) -> str:
        return f"{self.cell} ({self.protocol})"


@dataclass(frozen=True)
class SetScore(Score):
    """The mean score of a test set. PSNR and SSIM are nan if no image has a finite score.

    Attributes:
        images: number of images in the mean. Only images with finite PSNR and SSIM are averaged.
        left_out: scores of the images that are not averaged, keyed by image name.
    """

    images: int
    left_out: Mapping[str, Score]

    @property
    def note(self) -> str:
        """The names and scores of the images that are not in the mean; "" if all images are."""
        return "; ".join(f"{name}: {score.cell}, not averaged" for name, score in self.left_out.items())


def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> Score:
    """Measure PSNR and SSIM of an SR image against HR.

    Args:
        sr: the SR image: uint8, (h, w, 3) RGB or (h, w) grey.
        gt: the HR image, already cut by `Protocol.cut_gt`, with the shape and type of sr.
        protocol: the protocol. Its option `grey` has no effect here, because `sets.load_gt` has applied it.

    Raises:
        ValueError: the images have different shapes, or are not uint8.
    """
    if sr.shape != gt.shape:
        raise ValueError(f"the SR image must have the shape of HR, {gt.shape}; got {sr.shape}")
    if sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(f"SR and HR must be uint8, 0..255; got {sr.dtype} and {gt.dtype}")
    return Score(measure_psnr(sr, gt, protocol), measure_ssim(sr, gt, protocol), protocol)


def mean_score(scores: Mapping[str, Score]) -> SetScore:
    """Return the mean score of a test set.

    Images with nan or inf are not averaged; `SetScore.left_out` lists them.

    Args:
        scores: image name -> score.

    Raises:
        ValueError: scores is empty, or has scores of several protocols.
    """
    protocols = {score.protocol for score in scores.values()}
    if len(protocols) != 1:
        raise ValueError(f"a mean must have scores of one protocol; got {sorted(map(str, protocols)) or 'no scores'}")
    good = [score for score in scores.values() if score.finite]
    psnr = float(np.mean([score.psnr for score in good])) if good else math.nan
    ssim = float(np.mean([score.ssim for score in good])) if good else math.nan
    left_out = {name: score for name, score in scores.items() if not score.finite}
    return SetScore(psnr, ssim, protocols.pop(), len(good), left_out)


def mean_scores(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, SetScore]:
    """Return set name -> mean score, from set name -> image name -> score."""
    return {name: mean_score(own) for name, own in scores.items()}


@dataclass(frozen=True)
class MeasuredImage:
    """The score of one image, and the conditions of its measurement (see `cost.describe_conditions`)."""

    score: Score
    conditions: dict[str, str]


class ScoreCache:
    """A folder with a JSON file and a PNG file for each measured image. The first `store` creates the folder.

    Images that are in the cache are not measured again: an interrupted leaderboard continues from the cache, and adding
    a contestant measures only this contestant.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, identity: str, variant: str, protocol: Protocol, image_digest: str) -> str:
        """Return the key of a measurement: a SHA-256 over the four arguments.

        Args:
            identity: hash of the contestant's weights and network options.
            variant: name of the inference variant.
            protocol: the protocol of the measurement.
            image_digest: hash of the pixels of the image.
        """
        return hashlib.sha256(json.dumps([identity, variant, protocol.name, image_digest]).encode()).hexdigest()

    def load(self, key: str, protocol: Protocol) -> MeasuredImage | None:
        """Load a measurement from the cache; return None if it is missing or damaged."""
        try:
            stored = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
            if not self.picture(key).is_file():
                return None
            score = Score(float(stored["psnr"]), float(stored["ssim"]), protocol)
            return MeasuredImage(score, dict(stored["conditions"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def store(self, key: str, measurement: MeasuredImage, sr: np.ndarray) -> None:
        """Write a measurement and its SR image (uint8, (h, w) grey or (h, w, 3) RGB) to the cache."""
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.picture(key), encode_png(sr))
        score = measurement.score
        text = json.dumps({"psnr": score.psnr, "ssim": score.ssim, "conditions": measurement.conditions})
        files.write(self.folder / f"{key}.json", text)

    def load_value(self, key: str, metric: str) -> float | None:
        """Load the value of an optional metric for a measured image; return None if the cache does not have it."""
        try:
            return float((self.folder / f"{key}.{metric}.txt").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def store_value(self, key: str, metric: str, value: float) -> None:
        """Write the value of an optional metric for a measured image."""
        files.write(self.folder / f"{key}.{metric}.txt", repr(value))

    def picture(self, key: str) -> Path:
        """Return the path of the SR image of a measurement."""
        return self.folder / f"{key}.png"

    def load_picture(self, key: str) -> np.ndarray:
        """Load the SR image of a measurement: uint8, (h, w) grey or (h, w, 3) RGB."""
        return load_rgb_or_grey(self.picture(key))


def load_metrics(names: Sequence[str], device: torch.device) -> tuple[dict[str, Measure], list[str]]:
    """Load the functions of some metrics.

    Args:
        names: names of metrics in `METRICS`.
        device: the device for the metrics of the package pyiqa.

    Returns:
        Metric name -> function, and a list with one line for each skipped metric. A metric is skipped if pyiqa is not
        installed or the metric's weights could not be downloaded.
    """
    measures = {name: METRICS[name].measure for name in names}
    loaded = {name: measure for name, measure in measures.items() if measure is not None}
    wanted = [name for name in names if name not in loaded]
    if not wanted:
        return loaded, []
    try:
        # pyiqa prints to standard output while it is imported and while it downloads weights.
        with contextlib.redirect_stdout(io.StringIO()):
            pyiqa = compat.require("pyiqa", "perceptual")
    except UserError as error:
        return loaded, [f"skipped {', '.join(wanted)} (optional metrics): {error}"]
    notes = []
    for name in wanted:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model = pyiqa.create_metric(name, device=device)
        except Exception as error:  # the download of the weights may raise any exception
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(f"skipped {name} (an optional metric): pyiqa could not download the metric's weights: {first}")
            continue
        loaded[name] = _by_pyiqa(model, device)
    return loaded, notes


def _by_pyiqa(model: Callable[..., torch.Tensor], device: torch.device) -> Measure:
    """Return a function that calls a metric of pyiqa on RGB images, after the protocol's border is cut.

    It passes the SR image alone if the metric does not compare with HR.
    """
    needs_hr = getattr(model, "metric_mode", "FR") == "FR"

    def measure(sr: np.ndarray, gt: np.ndarray, protocol: Protocol) -> float:
        images = [to_tensor(protocol.cut_border(image), device) for image in ((sr, gt) if needs_hr else (sr,))]
        try:
            with torch.inference_mode():
                return float(model(*images))
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            return math.nan  # the metric fails on images that are too small or too smooth

    return measure
