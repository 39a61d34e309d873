"""`basicsr data`: make, download, check and time data sets."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from han_arch.bench.loading import compare_imresize, loader_rates, network_rate, read_options
from han_arch.commands import subcommands
from han_arch.data.benchmarks import BENCHMARKS, DOWNLOADS, SPLITS, archives_of, compare_with_benchmark, obtain
from han_arch.data.degradation import CONVENTIONS, DEGRADATIONS, degradation_at, get_degradation
from han_arch.data.image_sets import GREY_POLICIES
from han_arch.data.imresize import BORDERS
from han_arch.data.parallel import default_workers
from han_arch.data.prepare import LQ_PATCH, PRODUCTS, CropGrid, Recipe, prepare
from han_arch.data.verify import Expectation, Report, verify_folder, verify_pair
from han_arch.errors import UserError

PREPARE = """Make training or test data from a folder of HR images.

Output in OUT, here for --scale 4 (BDx3, x2, x3 and x8 likewise):

  GT_x4/NAME.png            HR, cut to sides that are multiples of 4
  LR_BIx4/NAME.png          its LR, same file name
  GT_sub_x4/NAME_s001.png   HR sub-images, 480 x 480, step 240
  LR_sub_BIx4/...           the same places of the LR image
  GT_sub_x4.lmdb            the sub-images as LMDBs for BasicSR:
  LR_sub_BIx4.lmdb            dataroot_gt, dataroot_lq with io_backend: type: lmdb

The command first checks all HR files and names every one that it cannot use. You can stop it at any moment: the
unfinished part is called NAME.partial, and the same command continues there. It does not touch finished parts."""

PREPARE_EXAMPLES = """  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 2 3 4
  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 4 --only lmdb
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 2 3 4 --benchmark
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 3 --degradation BD --benchmark"""

DOWNLOAD = f"""Download data sets from their official addresses: DIV2K (HR, and with --scale the official LR), and the
benchmark sets {", ".join(DOWNLOADS[1:])} (HR only).

Run the same command again to resume a broken transfer. Sizes and hashes are checked. If nobody published a hash, the
first download's is recorded in OUT/downloads/downloads.json, and later ones must equal it.

  OUT/DIV2K/DIV2K_train_HR/0001.png               DIV2K, and DIV2K_valid_HR
  OUT/DIV2K/DIV2K_train_LR_bicubic_X4/0001x4.png  official LR of --scale 4 (x8: DIV2K_train_LR_x8)
  OUT/Set5/HR/img_001.png                         benchmark sets"""

DOWNLOAD_EXAMPLES = """  basicsr data download DIV2K -o datasets
  basicsr data download DIV2K --scale 4 --split valid -o datasets
  basicsr data download Set5 Set14 B100 Urban100 -o datasets
  basicsr data download --list"""

VERIFY = f"""Check data sets: folders of images and LMDBs, alone or as GT and LR.

The command checks counts, names, pairs, sizes against the scale, every image to its last byte, and an LMDB's keys
against its meta_info.txt. It finds the convention that made the LR images and the share of samples that differ.
It knows: {", ".join(CONVENTIONS)}.
Exit status: 0 good, 1 bad, 2 nothing to check."""

VERIFY_EXAMPLES = """  basicsr data verify datasets/DIV2K                      all that basicsr data prepare made there
  basicsr data verify HR_FOLDER LR_FOLDER --scale 4       one pair; folders and LMDBs may be mixed
  basicsr data verify HR_FOLDER LR_FOLDER --degradation BIx4
  basicsr data verify datasets/DIV2K/GT_sub_x4.lmdb       one set
  basicsr data verify datasets/Set5/HR --benchmark Set5   is it Set5?"""

BENCH = """Measure how fast training samples are read from LMDB and from folders with an option file's patch, batch and
workers, and how fast the network trains on them. The slower of the two is the bottleneck.
With --imresize, time imresize against BasicSR's on a 2040x1356 RGB image; exit status 1 if it is slower."""

BENCH_EXAMPLES = """  basicsr data bench -opt options/train_HAN_x4.yml
  basicsr data bench -opt options/train_HAN_x4.yml --no-network
  basicsr data bench --imresize"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands and their arguments."""
    command = subcommands(parser)
    workers = {"type": int, "default": default_workers(), "help": "processes (default: one a core)"}
    kinds = [
        f"{kind.name}: {kind.doc}, {' '.join(f'x{scale}' for scale in kind.scales)}" for kind in DEGRADATIONS.values()
    ]
    scales = sorted({scale for kind in DEGRADATIONS.values() for scale in kind.scales})

    add = command(
        _prepare, "make LR images, sub-images and LMDBs from a folder of HR images", PREPARE_EXAMPLES, PREPARE
    )
    add("hr_folder", metavar="HR_FOLDER", type=Path, help="the HR images (not in sub-folders)")
    add("-o", "--out", metavar="OUT", type=Path, required=True, help="output folder")
    add("--scale", type=int, nargs="+", required=True, choices=scales, help="one or more scales")
    add("--degradation", choices=tuple(DEGRADATIONS), default="BI", help=f"{'; '.join(kinds)} (default: BI)")
    add("--border", choices=BORDERS, default=BORDERS[0], help="border of BI; replicate makes LR_BIx4_replicate")
    add("--only", choices=PRODUCTS, nargs="+", default=PRODUCTS, help="make these only (default: all)")
    add("--benchmark", action="store_true", help="a test set: whole images only, any size, grey files stay grey")
    add("--crop-size", type=int, default=480, help="side of a sub-image in HR pixels (default: 480)")
    add("--step", type=int, default=240, help="distance between sub-images (default: 240)")
    add("--gt-size", type=int, help=f"training patch that every image must contain (default: {LQ_PATCH} x scale)")
    add("--grey", choices=GREY_POLICIES, help="grey files: refuse (default), keep, or make three equal channels")
    add("--workers", **workers)

    add = command(
        _download, "fetch DIV2K and the benchmark sets from their official addresses", DOWNLOAD_EXAMPLES, DOWNLOAD
    )
    add("sets", metavar="SET", nargs="*", help=", ".join(DOWNLOADS))
    add("-o", "--out", metavar="OUT", type=Path, default=Path("datasets"), help="default: datasets")
    add("--scale", type=int, nargs="+", choices=(2, 3, 4, 8), default=[], help="DIV2K's official LR of these scales")
    add("--split", nargs="+", choices=tuple(SPLITS), default=list(SPLITS), help="of DIV2K (default: both)")
    add("--keep-archives", action="store_true", help="keep the zip files")
    add("--list", action="store_true", help="show the benchmark sets, their licences and traps")

    add = command(_verify, "check folders and LMDBs and find out how the LR images were made", VERIFY_EXAMPLES, VERIFY)
    add("gt", metavar="PATH", type=Path, help="a prepared folder, or the HR folder or LMDB")
    add("lr", metavar="LR", type=Path, nargs="?", help="the LR folder or LMDB of these HR images")
    add("--scale", type=int, help="HR side / LR side (default: the scale of the first pair)")
    add("--degradation", help="the degradation of LR, such as BIx4; any other is then a fault")
    add("--benchmark", metavar="SET", help=f"also compare PATH with the record of {', '.join(BENCHMARKS)}")
    add("--workers", **workers)

    add = command(_bench, "compare the speed of loading and network, and time imresize", BENCH_EXAMPLES, BENCH)
    add("-opt", metavar="FILE", type=Path, help="a training option file")
    add("--imresize", action="store_true", help="time imresize against BasicSR's")
    add("--seconds", type=float, default=10, help="duration of each measurement (default: 10)")
    add("--no-network", action="store_true", help="measure the loading only")


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit status."""
    status: int = args.run_subcommand(args)
    return status


def _prepare(args: argparse.Namespace) -> int:
    if args.benchmark:
        recipe = Recipe(products=("images",), grey=args.grey or "keep", patch=0)
    else:
        grid = CropGrid(args.crop_size, args.step)
        recipe = Recipe(tuple(args.only), grid, args.grey or "refuse", args.gt_size or None)
    degradations = [degradation_at(args.degradation, scale, args.border) for scale in sorted(set(args.scale))]
    made = prepare(args.hr_folder, args.out, degradations, recipe, args.workers)
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0


def _download(args: argparse.Namespace) -> int:
    if args.list or not args.sets:
        sys.stdout.write("".join(f"{row.describe()}\n" for row in BENCHMARKS.values()))
        return 0
    for archive in [archive for name in args.sets for archive in archives_of(name, args.scale, args.split)]:
        obtain(archive, args.out, args.keep_archives, _say)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _verify(args: argparse.Namespace) -> int:
    wanted = None if args.degradation is None else get_degradation(args.degradation)
    expected = Expectation(args.scale or (wanted.scale if wanted else None), wanted)
    for path in (args.gt, args.lr):
        if path is not None and not path.is_dir():
            raise UserError(f"no folder {path}")
    faults = 0
    for what, report in _reports(args, expected):
        _say(f"{what}: {'bad' if report.faults else 'good'}")
        for line in (*report.notes, *(f"BAD {fault}" for fault in report.faults)):
            _say(f"  {line}")
        faults += len(report.faults)
    _say(f"bad: {faults} faults" if faults else "good")
    return 1 if faults else 0


def _reports(args: argparse.Namespace, expected: Expectation) -> Iterable[tuple[str, Report]]:
    if args.benchmark is not None:
        yield f"{args.gt} as {args.benchmark}", Report(*compare_with_benchmark(args.benchmark, args.gt))
    if args.lr is not None:
        yield f"{args.gt} and {args.lr}", verify_pair(args.gt, args.lr, expected, args.workers)
    else:
        yield from verify_folder(args.gt, args.workers)


def _bench(args: argparse.Namespace) -> int:
    if args.opt is None and not args.imresize:
        raise UserError("nothing to measure: give -opt FILE or --imresize")
    is_slower = _time_imresize() if args.imresize else False
    if args.opt is not None:
        _bench_loading(args)
    return int(is_slower)


def _time_imresize() -> bool:
    results = compare_imresize()
    _say("imresize of 2040x1356 RGB, best of alternating runs:")
    for scale, ours, theirs in results:
        times = theirs / ours
        _say(f"  x{scale}: {ours * 1e3:6.1f} ms; BasicSR's {theirs * 1e3:6.1f} ms ({times:.2f} times as long)")
    return any(ours > theirs for _, ours, theirs in results)


def _bench_loading(args: argparse.Namespace) -> None:
    options = read_options(args.opt)
    rates = []
    for rate in loader_rates(options, args.seconds):
        _say(f"{rate.per_second:9.1f} samples/s from {rate.what}; first batch after {rate.start:.1f} s")
        rates.append(rate)
    if args.no_network:
        return
    device, network = network_rate(options, args.seconds)
    _say(f"{network:9.1f} samples/s trained by {options['network_g']['type']} on {device}")
    for rate in rates:
        _say(f"{rate.what.split()[0]}: {rate.bottleneck(network)}")
