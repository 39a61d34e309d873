"""`basicsr data verify`: arguments and messages; the work stands in verify.py."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from han_arch.data.benchmarks import compare_with_benchmark
from han_arch.data.degradation import get_degradation
from han_arch.data.parallel import default_workers
from han_arch.data.verify import PREPARED, Report, verify_pair, verify_root, verify_single
from han_arch.errors import UserError

DESCRIPTION = """Check data sets: folders of images and LMDBs, alone or as GT and LR.

Looks at counts, names, pairs, sizes against the scale, every image to its last byte, an LMDB's keys against its
meta_info.txt, and says which convention made the LR images (MATLAB's bicubic with symmetric or replicate border,
BD, BasicSR's imresize, OpenCV's, Pillow's, or unknown) and the share of samples that differ from it.
Exit status: 0 good, 1 bad, 2 nothing to check."""

EXAMPLES = """examples:
  basicsr data verify datasets/DIV2K                      all that basicsr data prepare made there
  basicsr data verify HR_FOLDER LR_FOLDER --scale 4       one pair; folders and LMDBs may be mixed
  basicsr data verify HR_FOLDER LR_FOLDER --degradation BIx4
  basicsr data verify datasets/DIV2K/GT_sub_x4.lmdb       one set
  basicsr data verify datasets/Set5/HR --benchmark Set5   is it Set5?
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("gt", metavar="PATH", type=Path, help="a prepared folder, or the HR folder or LMDB")
    add("lr", metavar="LR", type=Path, nargs="?", help="the LR folder or LMDB of these HR images")
    add("--scale", type=int, help="HR side / LR side (default: what the first pair has)")
    add("--degradation", help="what must have made LR, such as BIx4; another convention is then a fault")
    add("--benchmark", metavar="SET", help="also compare PATH with what is known of Set5, Set14, B100, ...")
    add("--workers", type=int, default=default_workers(), help="processes (default: one for each core)")


def run(args: argparse.Namespace) -> int:
    """Check, print what was found, and return 1 when anything is bad."""
    if args.degradation is not None:
        args.scale = args.scale or get_degradation(args.degradation).scale
    for path in (args.gt, args.lr):
        if path is not None and not path.is_dir():
            raise UserError(f"no folder {path}")
    faults = 0
    for what, report in _reports(args):
        sys.stdout.write(f"{what}: {'bad' if report.faults else 'good'}\n")
        sys.stdout.write("".join(f"  {note}\n" for note in report.notes))
        sys.stdout.write("".join(f"  BAD {fault}\n" for fault in report.faults))
        sys.stdout.flush()
        faults += len(report.faults)
    sys.stdout.write(f"{f'bad: {faults} faults' if faults else 'good'}\n")
    return 1 if faults else 0


def _reports(args: argparse.Namespace) -> Iterable[tuple[str, Report]]:
    if args.benchmark is not None:
        yield f"{args.gt} as {args.benchmark}", Report(*compare_with_benchmark(args.benchmark, args.gt))
    yield from _set_reports(args)


def _set_reports(args: argparse.Namespace) -> Iterable[tuple[str, Report]]:
    if args.lr is not None:
        report = verify_pair(args.gt, args.lr, args.scale, args.degradation, args.workers)
        return [(f"{args.gt} and {args.lr}", report)]
    children = [path.name.removesuffix(".partial") for path in args.gt.iterdir() if path.is_dir()]
    if any(PREPARED.fullmatch(name) for name in children):
        return verify_root(args.gt, args.workers)
    return [(str(args.gt), verify_single(args.gt, args.workers))]
