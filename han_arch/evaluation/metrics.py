"""LPIPS, DISTS and NIQE through pyiqa, an optional package: what it cannot give is told and left out."""

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np
import torch

from han_arch.evaluation import score
from han_arch.evaluation.contestants import to_tensor
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import Result
from han_arch.evaluation.score_cache import ScoreCache
from han_arch.evaluation.sets import EvaluationSet

# SR and HR, uint8 (h, w, 3) or (h, w) -> a number; lower is better for all three.
Metric = Callable[[np.ndarray, np.ndarray], float]


def load(names: Sequence[str], device: torch.device) -> tuple[dict[str, Metric], list[str]]:
    """The metrics that can be had.

    Args:
        names: of `board.PERCEPTUAL`.
        device: where they run.

    Returns:
        name -> metric on RGB, and one line for each that cannot be had (the package or its weights are absent).
    """
    if not names:
        return {}, []
    try:
        # pyiqa talks while it is imported and while it fetches weights.
        with contextlib.redirect_stdout(io.StringIO()):
            pyiqa = import_module("pyiqa")
    except ImportError as error:
        return {}, [f"{', '.join(names)} left out: they need the pyiqa package (pip install pyiqa): {error}"]
    metrics, notes = {}, []
    for name in names:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model = pyiqa.create_metric(name, device=device)
        except Exception as error:  # whatever the download of its weights raises
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(f"{name} left out: pyiqa has not its weights and cannot fetch them: {first}")
            continue
        metrics[name] = _metric(model, device)
    return metrics, notes


def add(
    results: Sequence[Result], metrics: Mapping[str, Metric], sets: Sequence[EvaluationSet], cache: ScoreCache
) -> list[Result]:
    """The results with their `perceptual` means; values come from the cache where it has them.

    Args:
        results: of `leaderboard.run`.
        metrics: of `load`.
        sets: for HR.
        cache: has the images.
    """
    if not metrics:
        return list(results)
    pairs = {(dataset.name, pair.name): pair for dataset in sets for pair in dataset.pairs}
    added = []
    for result in results:
        means = {}
        for name, metric in metrics.items():
            values = []
            for image, key in result.pictures.items():
                value = cache.load_value(key, name)
                if value is None:
                    _, gt = pairs[result.dataset, image].load(result.protocol)
                    inside = _without_border(gt, result.protocol)
                    value = metric(_without_border(cache.load_picture(key), result.protocol), inside)
                    cache.store_value(key, name, value)
                values.append(value)
            finite = [value for value in values if math.isfinite(value)]
            means[name] = float(np.mean(finite)) if finite else math.nan
        added.append(replace(result, perceptual=means))
    return added


def _without_border(image: np.ndarray, protocol: Protocol) -> np.ndarray:
    border = protocol.crop_border or 0
    return image[border : image.shape[0] - border, border : image.shape[1] - border]


def _metric(model: Callable[..., torch.Tensor], device: torch.device) -> Metric:
    reference = getattr(model, "metric_mode", "FR") == "FR"

    def value(sr: np.ndarray, gt: np.ndarray) -> float:
        images = [to_tensor(score.as_rgb(image), device) for image in ((sr, gt) if reference else (sr,))]
        try:
            with torch.inference_mode():
                return float(model(*images))
        except (RuntimeError, ValueError, np.linalg.LinAlgError):
            return math.nan  # an image too small or too smooth for the metric

    return value
