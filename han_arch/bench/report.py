"""What was measured, as a markdown table, as CSV and as a chart."""

import csv
from pathlib import Path

from han_arch.bench.measure import Row, quotient, ratio_to_authors
from han_arch.bench.networks import AUTHORS, LIMITS

HEADER = (
    "case",
    "network",
    "median",
    "range",
    "against the authors' code",
    "against it in float32",  # as it was published; it has no other type of its own
    "convolutions at full rate",
)


def markdown(rows: list[Row]) -> str:
    """The table; the last column is the part of HAN's time that its bare convolutions take, by the same algorithm."""
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(_cells(row, rows)) + " |" for row in rows]
    return "\n".join(lines)


def write_csv(rows: list[Row], path: Path) -> None:
    """One line a measured value: case, network, unit, repeat, value; a row without values has its note as value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "network", "unit", "repeat", "value"])
        for row in rows:
            for number, value in enumerate(row.values):
                writer.writerow([row.case, row.network, row.unit, number, f"{value:.4f}"])
            if not row.values:
                writer.writerow([row.case, row.network, row.unit, "", row.note])


def draw_chart(rows: list[Row], path: Path) -> None:
    """Bars of the medians with their ranges, one panel a case.

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
        spread = [
            [row.median - min(row.values) for row in shown],
            [max(row.values) - row.median for row in shown],
        ]
        colours = [_colour(row.network) for row in shown]
        panel.barh([row.network for row in shown], medians, xerr=spread, color=colours)
        panel.set_title(case, loc="left", fontsize=10)
        panel.set_xlabel("seconds" if shown[0].unit == "s" else shown[0].unit)
    figure.savefig(path, dpi=110)


def _colour(network: str) -> str:
    return "C0" if network in LIMITS else "0.8" if network in LIMITS.values() else "0.6"


def _cells(row: Row, rows: list[Row]) -> list[str]:
    if not row.values:
        return [row.case, row.network, f"skipped: {row.note}", "", "", "", ""]
    digits = 3 if row.unit == "s" else 0
    spread = f"{min(row.values):.{digits}f} to {max(row.values):.{digits}f}" if len(row.values) > 1 else ""
    ratios = [ratio_to_authors(row, rows), _ratio_to_float32(row, rows)]
    unit = " as fast" if row.unit == "s" else " of its memory"
    against = ["" if ratio is None else f"{ratio:.2f}x{unit}" for ratio in ratios]
    return [row.case, row.network, f"{row.median:.{digits}f} {row.unit}", spread, *against, _limit_share(row, rows)]


def _ratio_to_float32(row: Row, rows: list[Row]) -> float | None:
    """A bfloat16 row's ratio to the authors' code in float32, by the medians, since other rounds were those."""
    case = row.case.replace("bfloat16", "float32")
    peers = [peer for peer in rows if peer.case == case != row.case and peer.network == AUTHORS and peer.values]
    return quotient(peers[0], row) if peers else None


def _limit_share(row: Row, rows: list[Row]) -> str:
    limit = LIMITS.get(row.network)
    limits = [peer for peer in rows if peer.case == row.case and peer.network == limit and peer.values]
    return f"{100 * quotient(limits[0], row):.0f} %" if limits else ""
