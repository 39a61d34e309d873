"""`basicsr zoo show`."""

import argparse
import sys
import textwrap

from han_arch.commands.zoo_list import where
from han_arch.zoo import entry as entries
from han_arch.zoo import store
from han_arch.zoo.entry import Entry

EXAMPLES = """examples:
  basicsr zoo show han-authors-bix4"""
UNKNOWN = "unknown"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    parser.add_argument("name", metavar="NAME", help="a name of `basicsr zoo list`")


def run(args: argparse.Namespace) -> int:
    """Print the entry; UserError when there is none of this name."""
    sys.stdout.write(describe(entries.find(args.name)))
    return 0


def describe(entry: Entry) -> str:
    """All that the table has of an entry, a line or more for each field."""
    path = store.present(entry)
    facts = {
        "network": f"{entry.architecture}, "
        + ", ".join(f"{key} {value}" for key, value in entry.arguments.items() if key != "upscale"),
        "task": f"{entry.task}: scale {entry.scale}, degradation {entry.degradation}",
        "parameters": f"{entry.parameters:,}",
        "trained on": entry.training_set + (f", {entry.iterations:,} iterations" if entry.iterations else ""),
        "recipe": entry.recipe or UNKNOWN,
        "started from": UNKNOWN if entry.started_from is None else entry.started_from or "random weights",
        "origin": entry.origin,
        "file": f"{path} ({where(entry)})" if path else f"{entry.file} ({where(entry)})",
        "how to get it": entry.how_to_get,
        "address": entry.url or "",
        "sha256": entry.sha256 or f"{UNKNOWN}: nobody published it",
        "size": f"{entry.size:,} bytes" if entry.size else UNKNOWN,
        "licence": entry.licence,
        "data terms": entry.data_terms,
        "date, commit": f"{entry.date or UNKNOWN}, {entry.commit or UNKNOWN}",
    }
    lines = [entry.name]
    for key, value in facts.items():
        if value:
            lines += textwrap.wrap(value, 110, initial_indent=f"  {key:14}", subsequent_indent=" " * 16,
                                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
    if not entry.expected:
        lines.append("  results       none: no published number was found, and nothing was measured here")
    for number, expected in enumerate(entry.expected):
        lead = "results" if number == 0 else ""
        lines.append(
            f"  {lead:14}{expected.dataset:9}{expected.psnr:.2f} dB / {expected.ssim:.4f}, {expected.status} "
            f"({expected.source}), {expected.variant}, within {expected.tolerance_db} dB"
        )
    if entry.expected:
        lines.append(f"  {'protocol':14}{entry.expected[0].protocol}")
    return "\n".join(lines) + "\n"
