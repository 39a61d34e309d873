"""Write the results of a leaderboard as CSV and Markdown files, with the protocol of every score."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from han_arch.errors import printable
from han_arch.evaluation import comparison, outputs
from han_arch.evaluation.comparison import Comparison
from han_arch.evaluation.protocol import Protocol
from han_arch.evaluation.run import SetResult
from han_arch.evaluation.score import METRICS, PSNR, SSIM, Score, mean_score, number

FILES = ("results.csv", "per_image.csv", "README.md")
# First characters of a formula in spreadsheets: = + - @ and their full-width forms.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Not the "_" inside of img_003, and not brackets that make no link.
_MARKUP = re.compile(r"[\\`*~|$]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


class Column(NamedTuple):
    """A column of results.csv."""

    name: str
    path: str  # where `SetResult` has the value: names of attributes or keys, joined by "."
    format: str = ""  # format of the value in Python
    writes_nan: bool = False  # whether nan is written as "nan"; otherwise the cell is empty


COLUMNS = (
    Column("model", "contestant"),
    Column("variant", "variant"),
    Column("set", "dataset"),
    Column("images", "mean.images"),
    Column("psnr_db", "mean.psnr", ".6f", True),
    Column("ssim", "mean.ssim", ".6f", True),
    Column("not_averaged", "mean.note"),
    Column("protocol", "protocol.name"),
    Column("published_method", "published.method"),
    Column("published_psnr_db", "published.score.psnr"),
    Column("published_ssim", "published.score.ssim", ".4f"),
    Column("published_status", "published.status"),
    Column("published_source", "published.source"),
    Column("minus_published_db", "minus_published_db", "+.4f", True),
    Column("minus_published_ssim", "minus_published_ssim", "+.5f"),
    Column("minus_baseline_db", "comparison.difference", "+.6f", True),
    Column("interval_low_db", "comparison.low", "+.6f"),
    Column("interval_high_db", "comparison.high", "+.6f"),
    Column("wins", "comparison.wins"),
    Column("losses", "comparison.losses"),
    Column("sign_test_p", "comparison.p_value", ".6g"),
    Column("verdict", "comparison.verdict"),
    Column("minus_full_db", "from_full.psnr", "+.6f", True),
    Column("largest_pixel_from_full", "from_full.largest"),
    Column("parameters", "cost.parameters"),
    Column("madds_per_output_mp", "cost.madds_per_mp", ".6g"),
    Column("relative_time", "relative_time", ".4g"),
    Column("seconds", "cost.seconds", ".4g"),
    Column("peak_mb", "cost.peak_mb", ".1f"),
    Column("cost_lr_size", "cost.lr_size"),
    Column("weights_sha256", "weights_sha256"),
    *(Column(key, f"conditions.{key}") for key in ("commit", "command", "device", "versions", "date")),
)


def write(folder: Path, name: str, results: Sequence[SetResult], baseline: str) -> str:
    """Write results.csv, per_image.csv and README.md with the title `name`. Return the text of README.md.

    Raises:
        UserError: the user wrote or edited one of these files, see `outputs.write`.
    """
    text = markdown(name, results, baseline)
    outputs.write(folder, dict(zip(FILES, (results_csv(results), per_image_csv(results), text), strict=True)))
    return text


def results_csv(results: Sequence[SetResult]) -> str:
    """Return the text of results.csv: one row per result. The columns are `COLUMNS` and the optional metrics."""
    columns = {column.name: column for column in _columns(results)}
    rows = ({name: _csv_cell(value, columns[name]) for name, value in values(result).items()} for result in results)
    return csv_text(list(columns), rows)


def _csv_cell(value: Any, column: Column) -> str:
    if value != value:  # nan
        return "nan" if column.writes_nan else ""
    return format(value, column.format)


def values(result: SetResult) -> dict[str, Any]:
    """Return the row of a result as a mapping from column name to value. Leave out columns without a value."""
    found = {}
    for column in _columns([result]):
        value: Any = result
        for part in column.path.split("."):
            if value is not None:
                value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
        if value is not None:
            found[column.name] = value
    return found


def _columns(results: Sequence[SetResult]) -> list[Column]:
    return [*COLUMNS, *(Column(name, f"perceptual.{name}", ".6f") for name in optional_metrics(results))]


def per_image_csv(results: Sequence[SetResult]) -> str:
    """Return the text of per_image.csv: one row per result and image."""
    rows: list[dict[str, str]] = []
    for one in results:
        rows += image_rows(one.scores, one.weights_sha256, model=one.contestant, variant=one.variant, set=one.dataset)
    return csv_text(list(rows[0]), rows)


def image_rows(scores: Mapping[str, Score], weights_sha256: str, **first: str) -> Iterator[dict[str, str]]:
    """Yield a row of per_image.csv for each image: a dict from column to text. Each dict begins with `first`."""
    for image, one in scores.items():
        numbers = {"psnr_db": f"{one.psnr:.6f}", "ssim": f"{one.ssim:.6f}", "protocol": one.protocol.name}
        yield {**first, "image": image, **numbers, "weights_sha256": weights_sha256}


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Return the text of a CSV file. A cell is empty if its row lacks the column.

    Spreadsheets run a text that begins like a formula. Such a text gets an apostrophe before it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writerow({column: _inert(column) for column in columns})
    writer.writerows({column: _inert(cell) for column, cell in row.items()} for row in rows)
    return text.getvalue()


def escaped(text: str) -> str:
    """Return a text for Markdown, so that its characters are shown as they are: no HTML, links, code or emphasis."""
    html_free = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", html_free)


class Markdown(str):
    """A text that is Markdown already, so a table shows it without escapes."""


def code(text: str) -> Markdown:
    """Return a text as a code span of Markdown. Backticks in the text become apostrophes."""
    return Markdown("`" + printable(text).replace("`", "'") + "`")


def _inert(cell: str) -> str:
    line = printable(cell)
    try:
        float(line)
    except ValueError:
        return f"'{line}" if line.lstrip()[:1] in _FORMULA else line
    return line


def optional_metrics(results: Sequence[SetResult]) -> list[str]:
    """Return the names of the optional metrics that at least one result has."""
    return list(dict.fromkeys(name for result in results for name in result.perceptual))


def markdown(name: str, results: Sequence[SetResult], baseline: str) -> str:
    """Return the text of README.md. Each protocol has one table of all test sets, then one table per test set."""
    lines = [f"# {escaped(name)}", ""]
    for protocol in dict.fromkeys(result.protocol for result in results):
        own = [result for result in results if result.protocol == protocol]
        datasets = list(dict.fromkeys(result.dataset for result in own))
        lines += [f"## Protocol: {protocol}", "", *_overview(own, datasets, baseline)]
        for dataset in datasets:
            lines += _details([result for result in own if result.dataset == dataset], baseline)
        lines += _published(protocol, datasets)
    return "\n".join([*lines, *_footer(results, baseline)]) + "\n"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, then an empty line. Heads and cells are escaped, except for `Markdown`."""
    first, *others = ("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (heads, *rows))
    return [first, "|" + "---|" * len(heads), *others, ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|") if isinstance(text, Markdown) else escaped(text)


def _overview(results: list[SetResult], datasets: list[str], baseline: str) -> list[str]:
    heads = [*(f"{name} PSNR / SSIM" for name in datasets), "parameters", "GMAdd / MP", f"time / {baseline}", "peak MB"]
    rows = []
    for label in dict.fromkeys(result.label for result in results):
        own = {result.dataset: result for result in results if result.label == label}
        first = next(iter(own.values()))
        cells = [own[name].mean.cell if name in own else "" for name in datasets]
        cells += [f"{first.cost.parameters:,}", number(first.cost.madds_per_mp / 1e9, 1)]
        rows.append([label, *cells, number(first.relative_time, 2), number(first.cost.peak_mb, 0)])
    return markdown_table(["model", *heads], rows)


def _details(results: list[SetResult], baseline: str) -> list[str]:
    versus_baseline = f"minus {baseline}, dB [95 %]"
    heads = ["model", "PSNR, dB", "SSIM", "published", "difference", versus_baseline, "sign test", "verdict"]
    rows, notes = [], []
    for result in results:
        mean, paper, versus = result.mean, result.published, result.comparison
        # PSNR has one decimal more than in papers, because a leaderboard must show small differences.
        share = f" ({mean.share})" if mean.images and mean.share else ""
        cells = [number(mean.psnr, PSNR.digits + 1) + share, number(mean.ssim, SSIM.digits) + share]
        minus = result.minus_published_db
        cells += [paper.cell, "-" if minus is None else number(minus, PSNR.digits, True)] if paper else ["", ""]
        difference, won, p_value, verdict = comparison_cells(versus, len(result.scores)) if versus else [""] * 4
        cells += [difference, won if p_value in ("", "-") else f"{won}, p = {p_value}", verdict]
        rows.append([result.label, *cells])
        notes += [f"{result.label}{note}." for note in _notes(result, baseline)]
    title = f"### {escaped(results[0].dataset)}, {len(results[0].scores)} images"
    notes += _compare_on_common_images(results)
    return [title, "", *markdown_table(heads, rows), *(line for note in notes for line in (_paragraph(note), ""))]


def _paragraph(text: str) -> str:
    """Return an escaped text that begins no heading and no list."""
    return re.sub(r"^(\d*)([#+=.)-])", r"\1\\\2", escaped(text.strip()))


def comparison_cells(versus: Comparison, images: int) -> list[str]:
    """Return four table cells: the difference with its interval, the wins and losses, the p-value, and the verdict.

    `images` is the number of images of the test set. A value that cannot be computed is "-".
    """
    if versus.images == 0:
        return ["-", "-", "-", "-"]
    interval = f"[{versus.low:+.3f}, {versus.high:+.3f}]" if versus.images > 1 else "[-]"
    share = f" ({versus.images} of {images} images)" if versus.images < images else ""
    won = f"{versus.wins} : {versus.losses}"
    return [f"{versus.difference:+.3f} {interval}{share}", won, f"{versus.p_value:.3g}", versus.verdict]


def _compare_on_common_images(results: Sequence[SetResult]) -> list[str]:
    """Return a note with comparable means, if the means of the table are over different images."""
    able = [result for result in results if result.mean.images]
    if len({tuple(result.mean.left_out) for result in able}) < 2:
        return []
    common = [name for name in able[0].scores if all(result.scores[name].finite for result in able)]
    if not common:
        return ["These means are over different images, and no image has finite scores of all models."]
    means = [(result.label, mean_score({name: result.scores[name] for name in common})) for result in able]
    listed = "; ".join(f"{label} {mean.cell}" for label, mean in means)
    return [f"These means are over different images. Means over the {len(common)} images of all models: {listed}."]


def _notes(result: SetResult, baseline: str) -> list[str]:
    notes = [f" compared with the variant full: {result.from_full}"] if result.from_full else []
    total, versus = len(result.scores), result.comparison
    for direction, higher in (("lower", False), ("higher", True)):
        values = []
        for name, value in result.perceptual.items():
            if METRICS[name].higher_is_better == higher:
                count = result.perceptual_images.get(name, total)
                share = f" ({count} of {total} images)" if count < total else ""
                values.append(f"{name} {number(value, METRICS[name].digits)}{share}")
        notes += [f", metrics on RGB ({direction} is better): {', '.join(values)}"] if values else []
    if versus and versus.images == 0:
        notes.append(f": not compared with {baseline}, because no image has a finite PSNR of both")
    elif versus and versus.images == 1:
        notes.append(f": no interval of the difference from {baseline}, because it is the difference of one image")
    if result.published and result.mean.left_out:
        notes.append(": not compared with the published score, because the mean leaves out images")
    return [*notes, f": {result.mean.note}"] if result.mean.note else notes


def _published(protocol: Protocol, datasets: list[str]) -> list[str]:
    found = comparison.published_on(datasets, protocol)
    if not found:
        return []
    title = "### Published scores with this protocol (the sources do not state the part LR)"
    rows = [[row.method, row.dataset, row.cell, row.status, row.source] for row in found]
    return [title, "", *markdown_table(["method", "set", "PSNR / SSIM", "status", "source"], rows)]


def _footer(results: Sequence[SetResult], baseline: str) -> list[str]:
    firsts: dict[tuple[str, str], SetResult] = {}
    for result in results:
        firsts.setdefault((result.label, result.weights_sha256), result)
    rows = [
        [label, sha256[:12], *(first.conditions.get(key, "") for key in ("commit", "device", "versions", "date"))]
        for (label, sha256), first in firsts.items()
    ]
    command, size = results[0].conditions.get("command", ""), results[0].cost.lr_size
    return [
        "## Conditions",
        "",
        *markdown_table(["model", "weights sha256", "commit", "device", "versions", "measured"], rows),
        f"Command: {code(command)}. Time and peak memory are measured on one LR image of {size}x{size} pixels. "
        "GMAdd / MP means 1e9 multiply-adds per output megapixel. The verdict compares a model with "
        f"{escaped(baseline)}. It is ahead or behind only if the 95 % paired bootstrap interval of the mean difference "
        "does not contain 0, and the p-value of the sign test is below 5 %. Otherwise it is not settled.",
    ]
