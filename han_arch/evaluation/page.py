"""The leaderboard as one HTML file that needs no network: table, charts by plotly.js, crops."""

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np

from han_arch import files
from han_arch.errors import UserError
from han_arch.evaluation import score
from han_arch.evaluation.board import Board, GalleryOptions, Place
from han_arch.evaluation.contestants import BICUBIC
from han_arch.evaluation.metrics import METRICS
from han_arch.evaluation.rows import optional_metrics
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score_cache import ScoreCache
from han_arch.evaluation.sets import EvaluationSet, as_rgb
from han_arch.images.strict import encode_png


@dataclass(frozen=True)
class Crop:
    """One crop: `versions` are (label, score of the whole image as text, PNG as a data address), HR first."""

    place: Place
    size: int
    versions: tuple[tuple[str, str, str], ...]


def write(folder: Path, board: Board, results: Sequence[SetResult], cache: ScoreCache) -> None:
    """Write index.html to the folder.

    Raises:
        UserError: the plotly package is not installed.
    """
    shown = [result for result in results if result.protocol.grey == board.protocol.grey]
    crops = make_crops(board.gallery, board.sets, shown, cache)
    files.write(folder / "index.html", page(board.name, board.baseline, results, crops))


def page(name: str, baseline: str, results: Sequence[SetResult], crops: Sequence[Crop]) -> str:
    """Return the page's HTML.

    Args:
        name: its title.
        baseline: contestant that the others are compared with.
        results: the rows of its table.
        crops: from `make_crops`.

    Raises:
        UserError: the plotly package is not installed.
    """
    try:
        plotlyjs: str = import_module("plotly.offline").get_plotlyjs()
    except ImportError as error:
        raise UserError("the HTML page needs the plotly package: pip install plotly") from error
    data = {
        "baseline": baseline,
        "perceptual": [{"name": name, "digits": METRICS[name].digits} for name in optional_metrics(results)],
        "rows": [_row(result) for result in results],
        "published": _published(results),
        "crops": [
            {
                "set": crop.place.dataset,
                "image": crop.place.image,
                "left": crop.place.left,
                "top": crop.place.top,
                "size": crop.size,
                "versions": [{"label": label, "score": cell, "src": src} for label, cell, src in crop.versions],
            }
            for crop in crops
        ],
    }
    return Template(_read("page.html")).substitute(
        title=html.escape(name),
        style=_read("page.css"),
        data=json.dumps(data, allow_nan=False).replace("<", "\\u003c"),
        plotly=plotlyjs.replace("</script", "<\\/script"),
        script="\n".join(_read(file) for file in ("table.js", "charts.js", "gallery.js")),
    )


def make_crops(
    options: GalleryOptions, sets: Sequence[EvaluationSet], results: Sequence[SetResult], cache: ScoreCache
) -> list[Crop]:
    """Cut the same square from HR and from every contestant's image.

    Args:
        options: the user's places, or how many crops to choose: squares where contestants differ most. Bicubic is
            shown but not compared, unless there is only one other contestant.
        sets: for HR.
        results: in the order to show.
        cache: has the images.
    """
    by_set: dict[str, list[SetResult]] = {}
    for result in results:
        by_set.setdefault(result.dataset, []).append(result)
    images = {(dataset.name, image.name): (dataset, image) for dataset in sets for image in dataset.images}
    crops = []
    for place in options.places or _choose_places(options, by_set, cache):
        dataset, image = images[place.dataset, place.image]
        _, gt = image.load(dataset.protocol)
        left, top = (
            max(0, min(start, side - options.size))
            for start, side in ((place.left, gt.shape[1]), (place.top, gt.shape[0]))
        )
        place = Place(dataset.name, image.name, left, top)
        versions = [("HR", "", _cut(gt, place, options.size))]
        for result in by_set.get(dataset.name, ()):
            picture = cache.load_picture(result.pictures[image.name])
            versions.append((result.label, result.scores[image.name].cell, _cut(picture, place, options.size)))
        crops.append(Crop(place, options.size, tuple(versions)))
    return crops


def most_different_window(images: Sequence[np.ndarray], size: int) -> tuple[int, int, float]:
    """Find the square in which versions of an image differ most.

    Args:
        images: uint8, (h, w, 3) or (h, w), all of one size.
        size: side of the square in pixels; at most the image's.

    Returns:
        Top and left of the square with the largest mean of (largest - smallest grey value), and that mean in levels.
    """
    grey = np.stack([as_rgb(image).astype(np.float32).mean(axis=2) for image in images])
    spread = grey.max(axis=0) - grey.min(axis=0)
    height, width = (min(size, side) for side in spread.shape)
    total = cv2.integral(spread)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(sums.argmax(), sums.shape)
    return int(top), int(left), float(sums.max() / (height * width))


def _choose_places(
    options: GalleryOptions, by_set: Mapping[str, Sequence[SetResult]], cache: ScoreCache
) -> list[Place]:
    if options.count == 0:
        return []
    found: list[tuple[float, Place]] = []
    for dataset, results in by_set.items():
        networks = [result for result in results if result.label != BICUBIC]
        compared = networks if len(networks) > 1 else results
        for image in results[0].pictures:
            pictures = [cache.load_picture(result.pictures[image]) for result in compared]
            top, left, spread = most_different_window(pictures, options.size)
            found.append((spread, Place(dataset, image, left, top)))
    found.sort(key=lambda item: -item[0])
    # Equal shares for the sets, so that one set of hard images does not fill the page.
    each = max(1, -(-options.count // len(by_set))) if by_set else 0
    taken: list[Place] = []
    for _, place in found:
        if len(taken) < options.count and sum(other.dataset == place.dataset for other in taken) < each:
            taken.append(place)
    return taken


def _cut(image: np.ndarray, place: Place, size: int) -> str:
    part = image[place.top : place.top + size, place.left : place.left + size]
    return "data:image/png;base64," + base64.b64encode(encode_png(np.ascontiguousarray(part))).decode("ascii")


def _row(result: SetResult) -> dict[str, Any]:
    mean, paper, versus, cost = result.mean, result.published, result.comparison, result.cost
    return {
        "label": result.label,
        "contestant": result.contestant,
        "variant": result.variant,
        "set": result.dataset,
        "protocol": result.protocol.name,
        "images": mean.images,
        "note": mean.note,
        "psnr": _number(mean.mean.psnr),
        "ssim": _number(mean.mean.ssim),
        "published": paper and paper.score.psnr,
        "source": paper and f"{paper.method}, {paper.cell}, {paper.status}: {paper.source}",
        "minusPublished": paper and _number(mean.mean.psnr - paper.score.psnr),
        "minusBaseline": versus and _number(versus.difference),
        "low": versus and _number(versus.low),
        "high": versus and _number(versus.high),
        "wins": versus and versus.wins,
        "losses": versus and versus.losses,
        "p": versus and versus.p_value,
        "verdict": versus.verdict if versus else "",
        "fromFull": result.from_full and _number(result.from_full.psnr),
        "fromFullNote": result.from_full and str(result.from_full),
        **{name: _number(value) for name, value in result.perceptual.items()},
        "parameters": cost.parameters,
        "gmadds": _number(cost.madds_per_mp / 1e9),
        "time": _number(result.relative_time),
        "mb": _number(cost.peak_mb),
        "weights": result.weights_sha256[:12],
        **{key: result.conditions.get(key, "") for key in ("commit", "command", "device", "versions", "date")},
        "perImage": {name: _number(one.psnr) for name, one in result.scores.items()},
    }


def _published(results: Sequence[SetResult]) -> list[dict[str, Any]]:
    return [
        {
            "protocol": protocol.name,
            "method": row.method,
            "set": row.dataset,
            "psnr": row.score.psnr,
            "ssim": _number(row.score.ssim),
            "status": row.status,
            "source": row.source,
        }
        for protocol in dict.fromkeys(result.protocol for result in results)
        for row in score.published_on({r.dataset for r in results if r.protocol == protocol}, protocol)
    ]


def _number(value: float) -> float | None:
    # JSON has neither nan nor inf; the table's note names them.
    return value if math.isfinite(value) else None


def _read(file: str) -> str:
    return resources.files("han_arch.evaluation").joinpath("page").joinpath(file).read_text("utf-8")
