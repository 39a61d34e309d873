"""`basicsr bench`: measure networks, print the results, and write a page, a CSV file and a chart."""

import argparse
import dataclasses
from pathlib import Path

import torch

from han_arch.bench import report
from han_arch.bench.measure import BenchSettings, measure_all
from han_arch.bench.networks import CASES, DTYPES, NETWORKS
from han_arch.commands import say, warn
from han_arch.evaluation import outputs
from han_arch.files import check_writable

NUMBERS = {  # fields of BenchSettings and their help texts
    "memory_lr_size": "side of the LR image for peak memory, in pixels (default: %(default)s)",
    "repeat": "number of rounds over all networks, after the warm-up (default: %(default)s)",
    "num_block": "number of RCABs in each group (default: %(default)s, the full size)",
    "num_feat": "number of feature channels (default: %(default)s, the full size)",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `basicsr bench` to the parser."""
    add, default = parser.add_argument, BenchSettings
    add("--cases", nargs="+", choices=CASES, default=default.cases,
        help="inference, training = their times; memory = peak memory of inference (default: all three)")  # fmt: skip
    add("--networks", nargs="+", choices=NETWORKS, default=default.networks, help="networks to measure (default: all)")
    add("--dtypes", nargs="+", choices=DTYPES, default=default.dtypes, help="number formats to measure (default: all)")
    add("--lr_sizes", nargs="+", type=int, default=default.lr_sizes,
        help="sides of the LR images for inference, in pixels (default: 96 192)")  # fmt: skip
    for name, text in NUMBERS.items():
        add(f"--{name}", type=int, default=getattr(default, name), help=text)
    add("--threads", type=int, help="number of processor threads (default: PyTorch's choice)")
    add("--out", type=Path, default="bench", help="folder for bench.csv, bench.md and bench.png (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Measure the networks, print and save the results; return 0."""
    settings = BenchSettings(**{field.name: getattr(args, field.name) for field in dataclasses.fields(BenchSettings)})
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    outputs.check(args.out, report.FILES)
    check_writable(args.out / name for name in report.FILES)
    result = measure_all(settings, lambda case: warn(f"measuring: {case}"))
    text = report.page(result)
    say(*text.splitlines())
    try:
        report.save(result.rows, text, args.out)
    except ImportError as error:
        warn(f"bench.png was not written ({error}); run pip install matplotlib")
    return 0
