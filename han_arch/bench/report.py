"""The results of `basicsr bench` as Markdown, CSV and chart."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from han_arch.bench.cases import BenchResult
from han_arch.bench.measure import Measurement, quotient, ratio_to_authors
from han_arch.bench.networks import AUTHORS, LIMITS, NETWORKS
from han_arch.evaluation.measurement import cpu_name
from han_arch.evaluation.rows import markdown_table
from han_arch.files import replacing, write

HEADS = (  # the published code, the authors', has float32 only
    "case", "network", "median", "range", "against the authors' code", "against it in float32",
    "convolutions at full rate",
)  # fmt: skip
_COUNT_LR_SIZE = 48  # multiply-adds are counted on a quarter of the 96 x 96 image


def page(result: BenchResult) -> str:
    """Return the page: the machine, the counts, the table, and why networks are missing."""
    capability = torch.backends.cpu.get_cpu_capability()
    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, {capability}; PyTorch {torch.__version__}."
    sections = [machine, counts(result.nets), table(result.rows)]
    sections += [f"Not measured: {title}: {reason}." for title, reason in result.skipped.items()]
    return "\n\n".join(section for section in sections if section) + "\n"


def save(rows: list[Measurement], text: str, folder: Path) -> None:
    """Write the page as `bench.md`, the rows as `bench.csv` and `bench.png`; make the folder if need be.

    Raises:
        ImportError: matplotlib is not installed; the other two files are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "bench.md", text)
    write(folder / "bench.csv", csv_text(rows))
    draw_chart(rows, folder / "bench.png")


def table(rows: list[Measurement]) -> str:
    """Return the Markdown table.

    The last column is the share of the bare convolutions, by the same algorithm, in the network's time.
    """
    return "\n".join(markdown_table(HEADS, [_cells(row, rows) for row in rows])[:-1])


def counts(nets: Mapping[str, nn.Module]) -> str:
    """Return a Markdown table of parameters, and of PyTorch's count of multiply-adds for an LR image of 96 x 96."""
    rows = []
    for key, net in nets.items():
        if NETWORKS[key].counted:
            counter = FlopCounterMode(display=False)
            with counter, torch.inference_mode():
                net.eval()(NETWORKS[key].random_input(1, _COUNT_LR_SIZE))
            parameters = sum(parameter.numel() for parameter in net.parameters())
            madds = counter.get_total_flops() / 2 * (96 / _COUNT_LR_SIZE) ** 2
            rows.append([NETWORKS[key].title, f"{parameters:,}", f"{madds / 1e9:.1f} G"])
    return "\n".join(markdown_table(["network", "parameters", "multiply-adds, LR 96"], rows)[:-1]) if rows else ""


def csv_text(rows: list[Measurement]) -> str:
    """Return one line for each value: case, network, unit, repeat, value. A row without values has its note there."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["case", "network", "unit", "repeat", "value"])
    for row in rows:
        for number, value in enumerate(row.values):
            writer.writerow([row.case, row.network, row.unit, number, f"{value:.4f}"])
        if not row.values:
            writer.writerow([row.case, row.network, row.unit, "", row.note])
    return text.getvalue()


def draw_chart(rows: list[Measurement], path: Path) -> None:
    """Draw the medians as bars with their ranges, one panel for each case, into a PNG file.

    Raises:
        ImportError: matplotlib is not installed.
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
        colours = [_colour(row.network) for row in shown]
        panel.barh([row.network for row in shown], medians, xerr=[below, above], color=colours)
        panel.set_title(case, loc="left", fontsize=10)
        panel.set_xlabel("seconds" if shown[0].unit == "s" else shown[0].unit)
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _colour(network: str) -> str:
    return "C0" if network in LIMITS else "0.8" if network in LIMITS.values() else "0.6"


def _cells(row: Measurement, rows: list[Measurement]) -> list[str]:
    if not row.values:
        return [row.case, row.network, f"skipped: {row.note}", "", "", "", ""]
    digits = 3 if row.unit == "s" else 0
    spread = f"{min(row.values):.{digits}f} to {max(row.values):.{digits}f}" if len(row.values) > 1 else ""
    ratios = [ratio_to_authors(row, rows), _ratio_to_float32(row, rows)]
    unit = " as fast" if row.unit == "s" else " of its memory"
    against = ["" if ratio is None else f"{ratio:.2f}x{unit}" for ratio in ratios]
    return [row.case, row.network, f"{row.median:.{digits}f} {row.unit}", spread, *against, _limit_share(row, rows)]


def _ratio_to_float32(row: Measurement, rows: list[Measurement]) -> float | None:
    """Return a bfloat16 row's ratio to the authors' code in float32, from the medians, as their rounds differ."""
    case = row.case.replace("bfloat16", "float32")
    peers = [peer for peer in rows if peer.case == case != row.case and peer.network == AUTHORS and peer.values]
    return quotient(peers[0], row) if peers else None


def _limit_share(row: Measurement, rows: list[Measurement]) -> str:
    limit = LIMITS.get(row.network)
    limits = [peer for peer in rows if peer.case == row.case and peer.network == limit and peer.values]
    return f"{100 * quotient(limits[0], row):.0f} %" if limits else ""
