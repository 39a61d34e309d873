"""The leaderboard as one HTML file that needs nothing else: table, charts, crops; plotly.js draws the charts."""

import html
import json
import math
from collections.abc import Sequence
from importlib import import_module, resources
from string import Template
from typing import Any

from han_arch.errors import UserError
from han_arch.evaluation import published
from han_arch.evaluation.gallery import Crop
from han_arch.evaluation.run import Result


def page(name: str, baseline: str, results: Sequence[Result], crops: Sequence[Crop]) -> str:
    """The page's HTML.

    Args:
        name: its title.
        baseline: model that the others are compared with.
        results: all rows.
        crops: the gallery.

    Raises:
        UserError: the plotly package is not installed.
    """
    try:
        plotlyjs: str = import_module("plotly.offline").get_plotlyjs()
    except ImportError as error:
        raise UserError("the HTML page needs the plotly package: pip install plotly") from error
    data = {
        "baseline": baseline,
        "perceptual": list(dict.fromkeys(name for result in results for name in result.perceptual)),
        "rows": [_row(result) for result in results],
        "published": _published(results),
        "crops": [
            {
                "set": crop.place.dataset,
                "image": crop.place.image,
                "left": crop.place.left,
                "top": crop.place.top,
                "size": crop.size,
                "versions": [{"label": label, "score": score, "src": src} for label, score, src in crop.versions],
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


def _row(result: Result) -> dict[str, Any]:
    mean, paper, versus, cost = result.mean, result.published, result.comparison, result.cost
    return {
        "label": result.label,
        "model": result.model,
        "variant": result.variant,
        "set": result.dataset,
        "protocol": result.protocol.name,
        "images": mean.images,
        "note": mean.note,
        "psnr": _number(mean.mean.psnr),
        "ssim": _number(mean.mean.ssim),
        "published": paper and paper.score.psnr,
        "source": paper and f"{paper.method}, {paper.score.cell.replace(' / nan', '')}, {paper.status}: {paper.source}",
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
        "perImage": {name: _number(score.psnr) for name, score in result.scores.items()},
    }


def _published(results: Sequence[Result]) -> list[dict[str, Any]]:
    rows = []
    for protocol in dict.fromkeys(result.protocol for result in results):
        sets = {result.dataset for result in results if result.protocol == protocol}
        for row in published.rows_for(protocol, sets):
            if row.score.protocol.key == protocol.key:
                cell = {"psnr": row.score.psnr, "ssim": _number(row.score.ssim)}
                rows.append(
                    {"protocol": protocol.name, "method": row.method, "set": row.dataset, **cell,
                     "status": row.status, "source": row.source}
                )  # fmt: skip
    return rows


def _number(value: float) -> float | None:
    # JSON has neither nan nor inf; the table's note names them.
    return value if math.isfinite(value) else None


def _read(file: str) -> str:
    return resources.files("han_arch.evaluation").joinpath("page").joinpath(file).read_text("utf-8")
