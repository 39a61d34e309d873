"""A leaderboard's results as CSV and as Markdown; no number without its protocol."""

import csv
import io
import math
from collections.abc import Sequence

from han_arch.evaluation import published
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import Result

COLUMNS = (
    "model", "variant", "set", "images", "psnr_db", "ssim", "not_averaged", "protocol",
    "published_method", "published_psnr_db", "published_ssim", "published_status", "published_source",
    "minus_published_db", "minus_published_ssim",
    "minus_baseline_db", "interval_low_db", "interval_high_db", "wins", "losses", "sign_test_p", "verdict",
    "minus_full_db", "largest_pixel_from_full",
    "parameters", "madds_per_output_mp", "relative_time", "seconds", "peak_mb", "cost_lr_size",
    "weights_sha256", "commit", "command", "device", "versions", "date",
)  # fmt: skip


def results_csv(results: Sequence[Result]) -> str:
    """One row for each model, variant, set and protocol: `COLUMNS`, then the perceptual metrics, if any."""
    perceptual = dict.fromkeys(name for result in results for name in result.perceptual)
    return _csv([*COLUMNS, *perceptual], [_row(result) for result in results])


def per_image_csv(results: Sequence[Result]) -> str:
    """One row for each image of each result."""
    columns = ("model", "variant", "set", "image", "psnr_db", "ssim", "protocol", "weights_sha256")
    rows = [
        {
            "model": result.model,
            "variant": result.variant,
            "set": result.dataset,
            "image": name,
            "psnr_db": f"{score.psnr:.6f}",
            "ssim": f"{score.ssim:.6f}",
            "protocol": score.protocol.name,
            "weights_sha256": result.weights_sha256,
        }
        for result in results
        for name, score in result.scores.items()
    ]
    return _csv(columns, rows)


def markdown(name: str, results: Sequence[Result], baseline: str) -> str:
    """A page for a README: for each protocol one table of all sets, then one of each set with its comparisons."""
    lines = [f"# {name}", ""]
    for protocol in dict.fromkeys(result.protocol for result in results):
        own = [result for result in results if result.protocol == protocol]
        lines += [f"## Protocol: {protocol}", "", *_overview(own, baseline)]
        for dataset in dict.fromkeys(result.dataset for result in own):
            lines += _details([result for result in own if result.dataset == dataset], baseline)
        lines += _published_rows(protocol, own)
    lines += _footer(results, baseline)
    return "\n".join(lines) + "\n"


def number(value: float, digits: int, sign: bool = False) -> str:
    """A number for a table cell; "" for nan."""
    return "" if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def _overview(results: list[Result], baseline: str) -> list[str]:
    datasets = list(dict.fromkeys(result.dataset for result in results))
    heads = [*(f"{name} PSNR / SSIM" for name in datasets), "parameters", "GMAdd / MP", f"time / {baseline}", "MB"]
    rows = []
    for key in dict.fromkeys((result.model, result.variant) for result in results):
        own = {result.dataset: result for result in results if (result.model, result.variant) == key}
        any_result = next(iter(own.values()))
        cells = [own[name].mean.mean.cell if name in own else "" for name in datasets]
        cost = any_result.cost
        cells += [f"{cost.parameters:,}", number(cost.madds_per_mp / 1e9, 1)]
        cells += [number(any_result.relative_time, 2), number(cost.peak_mb, 0)]
        rows.append([any_result.label, *cells])
    return markdown_table(["model", *heads], rows)


def _details(results: list[Result], baseline: str) -> list[str]:
    heads = ["model", "PSNR, dB", "SSIM", "published", "difference", f"minus {baseline}, dB [95 %]", "sign test", "is"]
    rows = []
    for result in results:
        mean, paper, versus = result.mean, result.published, result.comparison
        cells = [number(mean.mean.psnr, 3), number(mean.mean.ssim, 4)]
        cells += (
            [paper.score.cell.replace(" / nan", ""), number(mean.mean.psnr - paper.score.psnr, 2, True)]
            if paper
            else ["", ""]
        )
        if versus is None:
            cells += ["", "", ""]
        else:
            cells.append(f"{versus.difference:+.3f} [{versus.low:+.3f}, {versus.high:+.3f}]")
            cells += [f"{versus.wins} : {versus.losses}, p = {versus.p_value:.3g}", versus.verdict]
        rows.append([result.label, *cells])
    images = len(results[0].scores)
    lines = [f"### {results[0].dataset}, {images} images", "", *markdown_table(heads, rows)]
    for result in results:
        if result.from_full:
            lines += [f"{result.label} against the full image: {result.from_full}.", ""]
        if result.perceptual:
            values = ", ".join(f"{name} {number(value, 4) or 'none'}" for name, value in result.perceptual.items())
            lines += [f"{result.label}, lower is better, on RGB: {values}.", ""]
        if result.mean.note:
            lines += [f"{result.label}: {result.mean.note}.", ""]
    return lines


def _published_rows(protocol: Protocol, results: list[Result]) -> list[str]:
    found = [
        row
        for row in published.rows_for(protocol, {result.dataset for result in results})
        if row.score.protocol.key == protocol.key
    ]
    if not found:
        return []
    rows = [[row.method, row.dataset, row.score.cell.replace(" / nan", ""), row.status, row.source] for row in found]
    heads = ["method", "set", "PSNR / SSIM", "status", "read in"]
    return ["### Published by this protocol (LR's border not stated)", "", *markdown_table(heads, rows)]


def _footer(results: Sequence[Result], baseline: str) -> list[str]:
    lines = ["## Conditions", ""]
    rows = []
    for key in dict.fromkeys((result.label, result.weights_sha256) for result in results):
        result = next(r for r in results if (r.label, r.weights_sha256) == key)
        what = result.conditions
        rows.append(
            [
                result.label,
                result.weights_sha256[:12],
                *(what.get(k, "") for k in ("commit", "device", "versions", "date")),
            ]
        )
    lines += markdown_table(["model", "weights sha256", "commit", "device", "versions", "measured"], rows)
    command = results[0].conditions.get("command", "")
    cost = results[0].cost
    lines.append(
        f"Made by `{command}`. Time and memory: one LR image of {cost.lr_size}x{cost.lr_size}. GMAdd / MP: 1e9 "
        f"multiply-adds per output megapixel. `is` compares with {baseline}: ahead or behind when the 95 % paired "
        "bootstrap interval of the mean difference leaves out 0 and the sign test is below 5 %, else not settled."
    )
    return lines


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, with an empty line behind it; bars in cells are escaped."""
    return [
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
    ]


def _row(result: Result) -> dict[str, str]:
    mean, paper, versus, cost = result.mean, result.published, result.comparison, result.cost
    row = {
        "model": result.model,
        "variant": result.variant,
        "set": result.dataset,
        "images": str(mean.images),
        "psnr_db": f"{mean.mean.psnr:.6f}",
        "ssim": f"{mean.mean.ssim:.6f}",
        "not_averaged": mean.note,
        "protocol": result.protocol.name,
        "parameters": str(cost.parameters),
        "madds_per_output_mp": f"{cost.madds_per_mp:.6g}",
        "relative_time": f"{result.relative_time:.4g}",
        "seconds": f"{cost.seconds:.4g}",
        "peak_mb": number(cost.peak_mb, 1),
        "cost_lr_size": str(cost.lr_size),
        "weights_sha256": result.weights_sha256,
        **result.conditions,
        **{name: number(value, 6) for name, value in result.perceptual.items()},
    }
    if paper:
        row |= {
            "published_method": paper.method,
            "published_psnr_db": str(paper.score.psnr),
            "published_ssim": number(paper.score.ssim, 4),
            "published_status": paper.status,
            "published_source": paper.source,
            "minus_published_db": f"{mean.mean.psnr - paper.score.psnr:+.4f}",
            "minus_published_ssim": number(mean.mean.ssim - paper.score.ssim, 5, sign=True),
        }
    if result.from_full:
        row |= {
            "minus_full_db": f"{result.from_full.psnr:+.6f}",
            "largest_pixel_from_full": str(result.from_full.largest),
        }
    if versus:
        row |= {
            "minus_baseline_db": f"{versus.difference:+.6f}",
            "interval_low_db": number(versus.low, 6, sign=True),
            "interval_high_db": number(versus.high, 6, sign=True),
            "wins": str(versus.wins),
            "losses": str(versus.losses),
            "sign_test_p": f"{versus.p_value:.6g}",
            "verdict": versus.verdict,
        }
    return row


def _csv(columns: Sequence[str], rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
