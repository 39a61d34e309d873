"""`basicsr zoo list`."""

import argparse
import sys

from han_arch.zoo import entry as entries
from han_arch.zoo import store
from han_arch.zoo.entry import FOUND, Entry

EXAMPLES = """examples:
  basicsr zoo list"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES


def run(args: argparse.Namespace) -> int:
    """Print a line for each entry."""
    rows = [("name", "task", "parameters", "trained on", "Set5 PSNR, dB", "file"), *map(_row, entries.ENTRIES)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.write("* as published by others, not measured here. `basicsr zoo show NAME` tells more.\n")
    return 0


def where(entry: Entry) -> str:
    """Where the entry's file is, in a word or two."""
    path = store.present(entry)
    if path is None:
        return "to be fetched" if entry.url and entry.sha256 else "by hand"
    return "in the package" if path.parent == store.SHIPPED else "in the cache"


def _row(entry: Entry) -> tuple[str, ...]:
    set5 = next((expected for expected in entry.expected if expected.dataset == "Set5"), None)
    psnr = "" if set5 is None else f"{set5.psnr:.2f}{'*' if set5.status == FOUND else ''}"
    return (entry.name, entry.task, f"{entry.parameters:,}", entry.training_set, psnr, where(entry))
