"""Results of `basicsr bench` as a Markdown page, a CSV file and a chart."""

import io
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from han_arch.bench.measure import BenchResult, Measurement
from han_arch.bench.networks import AUTHORS, LIMITS, NETWORKS
from han_arch.evaluation import outputs
from han_arch.evaluation.cost import cpu_name
from han_arch.evaluation.rows import csv_text, markdown_table

HEADS = (  # the authors published their code for float32 only
    "case", "network", "median", "range", "against the authors' code", "against the authors' code in float32",
    "time share of bare convolutions",
)  # fmt: skip
FILES = ("bench.md", "bench.csv", "bench.png")
CSV_COLUMNS = ("case", "network", "unit", "repeat", "value")
_COUNT_LR_SIZE = 48  # the LR image for the count is a quarter of 96 x 96


def page(result: BenchResult) -> str:
    """Return the Markdown page: machine, sizes of the networks, measurements, and the reasons for skipped networks."""
    capability = torch.backends.cpu.get_cpu_capability()
    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, {capability}; PyTorch {torch.__version__}."
    sections = [machine, counts(result.built), table(result.rows)]
    sections += [f"Not measured: {title}: {reason}." for title, reason in result.skipped.items()]
    return "\n\n".join(section for section in sections if section) + "\n"


def save(rows: list[Measurement], text: str, folder: Path) -> None:
    """Write the page to `bench.md` and the measurements to `bench.csv` and `bench.png`; create the folder if needed.

    Raises:
        ImportError: matplotlib is not installed. In this case, only `bench.md` and `bench.csv` are written.
        UserError: the user wrote or edited one of these files, see `outputs.write`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page_file, csv_file, chart_file = FILES
    outputs.write(folder, {page_file: text, csv_file: csv_text(CSV_COLUMNS, _csv_rows(rows))})
    outputs.write(folder, {chart_file: _draw_chart(rows)})


def table(rows: list[Measurement]) -> str:
    """Return the measurements as a Markdown table.

    The last column is the time of the bare convolutions divided by the network's time. The bare convolutions use the
    network's algorithm: direct convolution or Winograd's.
    """
    return "\n".join(markdown_table(HEADS, [_cells(row, rows) for row in rows])[:-1])


def counts(built: Mapping[str, nn.Module | Path]) -> str:
    """Return a Markdown table of each network's parameters and multiply-adds, for an LR image of 96 x 96."""
    rows = []
    for key, net in built.items():
        if NETWORKS[key].counted and isinstance(net, nn.Module):
            counter = FlopCounterMode(display=False)
            with counter, torch.inference_mode():
                net.eval()(NETWORKS[key].random_input(1, _COUNT_LR_SIZE))
            parameters = sum(parameter.numel() for parameter in net.parameters())
            madds = counter.get_total_flops() / 2 * (96 / _COUNT_LR_SIZE) ** 2
            rows.append([NETWORKS[key].title, f"{parameters:,}", f"{madds / 1e9:.1f} G"])
    return "\n".join(markdown_table(["network", "parameters", "multiply-adds, LR 96"], rows)[:-1]) if rows else ""


def _csv_rows(rows: list[Measurement]) -> Iterator[dict[str, str]]:
    """Yield one CSV row per value. A failed measurement has one row with its note as the value."""
    for row in rows:
        values = [(str(number), f"{value:.4f}") for number, value in enumerate(row.values)] or [("", row.note)]
        for number, value in values:
            yield dict(zip(CSV_COLUMNS, (row.case, row.network, row.unit, number, value), strict=True))


def _draw_chart(rows: list[Measurement]) -> bytes:
    """Return a PNG chart with one panel for each value of `Measurement.case`.

    A panel has one bar per network. The bar ends at the median; a line goes from the smallest to the largest value.
    """
    from matplotlib.figure import Figure

    rows = [row for row in rows if row.values]
    cases = list(dict.fromkeys(row.case for row in rows))
    figure = Figure(figsize=(11, 1.2 + 1.9 * len(cases)), layout="constrained")
    panels = figure.subplots(len(cases), 1, squeeze=False)[:, 0]
    for panel, case in zip(panels, cases, strict=True):
        shown = [row for row in rows if row.case == case][::-1]
        medians = [row.median for row in shown]
        below = [row.median - min(row.values) for row in shown]
        above = [max(row.values) - row.median for row in shown]
        limits = LIMITS.values()
        colours = ["C0" if row.network in LIMITS else "0.8" if row.network in limits else "0.6" for row in shown]
        panel.barh([row.network for row in shown], medians, xerr=[below, above], color=colours)
        panel.set_title(case, loc="left", fontsize=10)
        panel.set_xlabel("seconds" if shown[0].unit == "s" else shown[0].unit)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _cells(row: Measurement, rows: list[Measurement]) -> list[str]:
    if not row.values:
        return [row.case, row.network, f"skipped: {row.note}", "", "", "", ""]
    digits = 3 if row.unit == "s" else 0
    spread = f"{min(row.values):.{digits}f} to {max(row.values):.{digits}f}" if len(row.values) > 1 else ""
    in_float32 = row.case.replace("bfloat16", "float32")
    ratios = [ratio_to_authors(row, rows), ratio_to_authors(row, rows, in_float32) if in_float32 != row.case else None]
    unit = " as fast" if row.unit == "s" else " of its memory"
    against = ["" if ratio is None else f"{ratio:.2f}x{unit}" for ratio in ratios]
    limit = _find(rows, row.case, LIMITS.get(row.network))
    share = f"{100 * quotient(limit, row):.0f} %" if limit else ""
    return [row.case, row.network, f"{row.median:.{digits}f} {row.unit}", spread, *against, share]


def ratio_to_authors(row: Measurement, rows: list[Measurement], case: str | None = None) -> float | None:
    """Return (speed of the network in `row`) / (speed of the authors' code).

    If `row` is in MB, return (memory of the network) / (memory of the authors' code). The authors' code is measured
    under the conditions `case`; None means `row.case`. Return None if one of the measurements has no values.
    """
    peer = _find(rows, case or row.case, AUTHORS)
    if peer is None or not row.values:
        return None
    return quotient(peer, row) if row.unit == "s" else quotient(row, peer)


def quotient(above: Measurement, below: Measurement) -> float:
    """Divide the value in `above` by the value in `below` for each round; return the median of these ratios.

    If another program slows down a round, it slows down both values, and the ratio stays right. If the two measurements
    differ in `case` or in their number of rounds, return (median of above) / (median of below).
    """
    if above.case == below.case and len(above.values) == len(below.values):
        return statistics.median(a / b for a, b in zip(above.values, below.values, strict=True))
    return above.median / below.median


def _find(rows: list[Measurement], case: str, network: str | None) -> Measurement | None:
    return next((row for row in rows if (row.case, row.network) == (case, network) and row.values), None)
