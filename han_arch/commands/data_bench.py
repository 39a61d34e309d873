"""`basicsr data bench`: arguments and messages; the measuring stands in bench.py."""

import argparse
import sys
from pathlib import Path

from han_arch.bench.loading import compare_imresize, loader_rates, network_rate, read_options
from han_arch.errors import UserError

DESCRIPTION = """Measure how fast training samples are read, from LMDB and from folders, at an option file's settings
(patch, batch, workers), and how fast the network trains on them: the slower of the two is the bottleneck.
Or (--imresize) time imresize against BasicSR's on a 2040x1356 RGB image; exit status 1 when it is slower."""

EXAMPLES = """examples:
  basicsr data bench -opt options/train_HAN_x4.yml
  basicsr data bench -opt options/train_HAN_x4.yml --no-network
  basicsr data bench --imresize
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("-opt", metavar="FILE", type=Path, help="a training option file")
    add("--imresize", action="store_true", help="time imresize against BasicSR's")
    add("--seconds", type=float, default=10, help="how long to measure each thing (default: 10)")
    add("--no-network", action="store_true", help="measure the loading only")


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    if args.opt is None and not args.imresize:
        raise UserError("nothing to measure: give -opt FILE or --imresize")
    slower = _run_imresize() if args.imresize else False
    if args.opt is not None:
        _run_loading(args)
    return int(slower)


def _run_imresize() -> bool:
    results = compare_imresize()
    sys.stdout.write("imresize of 2040x1356 RGB, best of alternating runs:\n")
    for scale, ours, theirs in results:
        sys.stdout.write(
            f"  x{scale}: {ours * 1e3:6.1f} ms; BasicSR's {theirs * 1e3:6.1f} ms ({theirs / ours:.2f} times as long)\n"
        )
    return any(ours > theirs for _, ours, theirs in results)


def _run_loading(args: argparse.Namespace) -> None:
    options = read_options(args.opt)
    rates = []
    for rate in loader_rates(options, args.seconds):
        sys.stdout.write(f"{rate.per_second:9.1f} samples/s from {rate.what}; first batch after {rate.start:.1f} s\n")
        sys.stdout.flush()
        rates.append(rate)
    if args.no_network:
        return
    device, network = network_rate(options, args.seconds)
    sys.stdout.write(f"{network:9.1f} samples/s trained by {options['network_g']['type']} on {device}\n")
    for rate in rates:
        slow, times = ("network", rate.per_second / network) if rate.per_second > network else ("loader", 0.0)
        times = times or network / rate.per_second
        sys.stdout.write(f"{rate.what.split()[0]}: the {slow} is the bottleneck, {times:.1f} times slower\n")
