"""`basicsr bench`: measure, print the page, and write it with CSV and chart."""

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from han_arch.bench import report
from han_arch.bench.measure import BenchSettings, measure_all
from han_arch.bench.networks import CASES, DTYPES, NETWORKS


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add, default = parser.add_argument, BenchSettings
    add("--cases", nargs="+", choices=CASES, default=default.cases)
    add("--networks", nargs="+", choices=NETWORKS, default=default.networks)
    add("--dtypes", nargs="+", choices=DTYPES, default=default.dtypes)
    add("--lr_sizes", nargs="+", type=int, default=default.lr_sizes, help="LR pixels of a side, for inference")
    add("--memory_lr_size", type=int, default=default.memory_lr_size, help="LR pixels of a side, for peak memory")
    add("--repeat", type=int, default=default.repeat, help="rounds over all networks, after a warm-up")
    add("--threads", type=int, help="processor threads; default: PyTorch's choice")
    add("--num_block", type=int, default=default.num_block, help="blocks in a group (full size: 20)")
    add("--num_feat", type=int, default=default.num_feat, help="features (full size: 64)")
    add("--out", type=Path, default=Path("bench"), help="folder for bench.csv, bench.md and bench.png")


def run(args: argparse.Namespace) -> int:
    """Measure and report; return 0."""
    settings = BenchSettings(**{field.name: getattr(args, field.name) for field in dataclasses.fields(BenchSettings)})
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    result = measure_all(settings, lambda case: sys.stderr.write(f"measuring: {case}\n"))
    text = report.page(result)
    sys.stdout.write(text)
    try:
        report.save(result.rows, text, args.out)
    except ImportError as error:
        sys.stderr.write(f"no chart: {error}; pip install matplotlib\n")
    return 0
