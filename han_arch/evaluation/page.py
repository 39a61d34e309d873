"""Write the leaderboard as one HTML file with table, charts and crops. The file works without internet access."""

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import import_module, resources
from operator import itemgetter
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from han_arch.compat import require
from han_arch.evaluation import comparison, outputs
from han_arch.evaluation.board import Board, CropPlace, GalleryOptions
from han_arch.evaluation.contestants import BICUBIC
from han_arch.evaluation.rows import optional_metrics, values
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score import METRICS, ScoreCache
from han_arch.evaluation.sets import EvaluationSet, as_rgb
from han_arch.images.picture import largest_window
from han_arch.images.write import encode_png

FILE = "index.html"


def write(folder: Path, board: Board, results: Sequence[SetResult], cache: ScoreCache) -> None:
    """Write the leaderboard's page to index.html in a folder.

    Raises:
        UserError: plotly is not installed, an HR image has changed, or the user wrote or edited index.html.
    """
    shown = [result for result in results if result.protocol.grey == board.protocol.grey]
    crops = make_crops(board.gallery, board.sets, shown, cache)
    outputs.write(folder, {FILE: page(board.name, board.baseline, results, crops)})


def page(name: str, baseline: str, results: Sequence[SetResult], crops: Sequence[Mapping[str, Any]]) -> str:
    """Return the HTML text of the page with the title `name`. `crops` is the result of `make_crops`.

    Raises:
        UserError: the plotly package is not installed.
    """
    require("plotly", "leaderboard")
    plotlyjs: str = import_module("plotly.offline").get_plotlyjs()
    data = {
        "baseline": baseline,
        "perceptual": optional_metrics(results),
        "digits": {metric.name: metric.digits for metric in METRICS.values()},
        "rows": [_row(result) for result in results],
        "published": _published(results),
        "crops": list(crops),
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
) -> list[dict[str, Any]]:
    """Cut the crops of the page. A crop shows one square of an image in several versions: HR and all SR images.

    If `options` has no places, the function chooses the squares in which the SR images of the networks differ most. If
    there is only one network, it is compared with Bicubic.

    Returns:
        One mapping per crop with the keys "set", "image", "left", "top", "size" (in HR pixels) and "versions". The
        first version is HR. Each version has a "label", the "score" of the complete image as text, and "src": the PNG
        of the crop as a `data:` URL.
    """
    by_set: dict[str, list[SetResult]] = {}
    for result in results:
        by_set.setdefault(result.dataset, []).append(result)
    images = {(dataset.name, image.name): (dataset, image) for dataset in sets for image in dataset.images}
    crops = []
    for place in options.places or _choose_places(options, by_set, cache):
        dataset, image = images[place.dataset, place.image]
        _, gt = image.load(dataset.protocol)
        left = max(0, min(place.left, gt.shape[1] - options.size))
        top = max(0, min(place.top, gt.shape[0] - options.size))
        square = np.s_[top : top + options.size, left : left + options.size]
        versions = [{"label": "HR", "score": "", "src": _as_address(gt[square])}]
        for result in by_set.get(dataset.name, ()):
            if image.name not in result.pictures:
                continue
            picture = cache.load_picture(result.pictures[image.name])
            cell = result.scores[image.name].cell
            versions.append({"label": result.label, "score": cell, "src": _as_address(picture[square])})
        where = {"set": dataset.name, "image": image.name, "left": left, "top": top, "size": options.size}
        crops.append({**where, "versions": versions})
    return crops


def most_different_window(images: Sequence[np.ndarray], size: int) -> tuple[int, int, float]:
    """Find the square in which several versions of an image differ most.

    Args:
        images: the versions of the image: uint8, (h, w, 3) or (h, w), all with the same height and width.
        size: side of the square in pixels. If an image side is shorter, the square is cut to the length of that side.

    Returns:
        Top and left edge of the square in pixels, and the mean difference in the square (0..255). The difference at a
        pixel is the largest grey value of all versions minus the smallest.
    """
    grey = np.stack([as_rgb(image).astype(np.float32).mean(axis=2) for image in images])
    spread = grey.max(axis=0) - grey.min(axis=0)
    height, width = (min(size, side) for side in spread.shape)
    top, left = largest_window(spread, height, width)
    return top, left, float(spread[top : top + height, left : left + width].mean(dtype=np.float64))


def _choose_places(
    options: GalleryOptions, by_set: Mapping[str, Sequence[SetResult]], cache: ScoreCache
) -> list[CropPlace]:
    if options.count == 0:
        return []
    found = []
    for dataset, results in by_set.items():
        results = [result for result in results if result.pictures]
        networks = [result for result in results if result.label != BICUBIC]
        compared = networks if len(networks) > 1 else results
        of_set = []
        for image in results[0].pictures if results else ():
            if not all(image in result.pictures for result in compared):
                continue
            pictures = [cache.load_picture(result.pictures[image]) for result in compared]
            top, left, spread = most_different_window(pictures, options.size)
            of_set.append((-spread, CropPlace(dataset, image, left, top)))
        # Each set gets the same number of crops, so that one set with difficult images does not fill the page.
        found += sorted(of_set, key=itemgetter(0))[: math.ceil(options.count / len(by_set))]
    return [place for _, place in sorted(found, key=itemgetter(0))[: options.count]]


def _as_address(image: np.ndarray) -> str:
    png = encode_png(np.ascontiguousarray(image))
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _row(result: SetResult) -> dict[str, Any]:
    paper, full, versus = result.published, result.from_full, result.comparison
    total = len(result.scores)
    return {
        **{name: _number(value) if isinstance(value, float) else value for name, value in values(result).items()},
        "label": result.label,
        "source": paper and f"{paper.method}, {paper.cell}, {paper.status}: {paper.source}",
        "full_note": full and str(full),
        "share": result.mean.share,
        "perceptual_share": {
            name: f"{count} of {total} images" for name, count in result.perceptual_images.items() if count < total
        },
        "compared": f"{versus.images} of {total} images" if versus and versus.images < total else "",
        "per_image": {name: _number(one.psnr) for name, one in result.scores.items()},
    }


def _published(results: Sequence[SetResult]) -> list[dict[str, Any]]:
    return [
        {
            "protocol": protocol.name,
            "method": row.method,
            "set": row.dataset,
            "psnr_db": row.score.psnr,
            "ssim": _number(row.score.ssim),
            "status": row.status,
            "source": row.source,
        }
        for protocol in dict.fromkeys(result.protocol for result in results)
        for row in comparison.published_on({r.dataset for r in results if r.protocol == protocol}, protocol)
    ]


def _number(value: float) -> float | None:
    # JSON cannot store nan and inf. A note below the table lists the images that have them.
    return value if math.isfinite(value) else None


def _read(file: str) -> str:
    return resources.files("han_arch.evaluation").joinpath(f"page/{file}").read_text("utf-8")
