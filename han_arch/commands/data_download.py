"""`basicsr data download`: arguments and messages; the work stands in archives.py and han_arch/download.py."""

import argparse
import sys
from pathlib import Path

from han_arch.data.archives import SPLITS, benchmark_archive, div2k_archives, obtain
from han_arch.data.benchmarks import BENCHMARKS

DESCRIPTION = """Download data sets from their official addresses: DIV2K (HR, and with --scale the official LR), and the
benchmark sets Set5, Set14, B100, Urban100 (HR, as SelfExSR distributes them).

A broken transfer goes on where it stopped: run the same command again. Sizes and hashes are checked; where nobody
published a hash, the first download's is recorded in OUT/downloads/downloads.json and later ones must equal it.

  OUT/DIV2K/DIV2K_train_HR/0001.png               DIV2K, and DIV2K_valid_HR
  OUT/DIV2K/DIV2K_train_LR_bicubic_X4/0001x4.png  official LR of --scale 4 (x8: DIV2K_train_LR_x8)
  OUT/Set5/HR/img_001.png                         benchmark sets"""

EXAMPLES = """examples:
  basicsr data download DIV2K -o datasets
  basicsr data download DIV2K --scale 4 --split valid -o datasets
  basicsr data download Set5 Set14 B100 Urban100 -o datasets
  basicsr data download --list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("sets", metavar="SET", nargs="*", help="DIV2K, Set5, Set14, B100, Urban100")
    add("-o", "--out", metavar="OUT", type=Path, default=Path("datasets"), help="default: datasets")
    add("--scale", type=int, nargs="+", choices=(2, 3, 4, 8), default=[], help="DIV2K's official LR of these scales")
    add("--split", nargs="+", choices=tuple(SPLITS), default=list(SPLITS), help="of DIV2K (default: both)")
    add("--keep-archives", action="store_true", help="keep the zip files")
    add("--list", action="store_true", help="show the benchmark sets, their licences and traps")


def run(args: argparse.Namespace) -> int:
    """Download the sets one by one."""
    if args.list or not args.sets:
        sys.stdout.write("".join(f"{_describe(name)}\n" for name in BENCHMARKS))
        return 0
    archives = []
    for name in args.sets:
        archives += div2k_archives(args.scale, args.split) if name == "DIV2K" else [benchmark_archive(name)]
    for archive in archives:
        obtain(archive, args.out, args.keep_archives, _say)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _describe(name: str) -> str:
    row = BENCHMARKS[name]
    lines = [f"{row.name}: {row.images} images; {row.source}", f"  licence: {row.licence}"]
    return "\n".join([*lines, *(f"  note: {note}" for note in row.notes)])
