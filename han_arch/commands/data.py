"""The command `basicsr data`: prepare, download and check data sets, and measure the speed of loading them."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from han_arch.bench.loading import compare_imresize, loader_rates, network_rate, read_options
from han_arch.commands import say, subcommands
from han_arch.data.benchmarks import BENCHMARKS, DOWNLOADS, SPLITS, archives_of, compare_with_benchmark, obtain
from han_arch.data.degradation import CONVENTIONS, DEGRADATIONS, ScaledDegradation, degradation_at, get_degradation
from han_arch.data.imresize import BORDERS
from han_arch.data.parallel import default_workers
from han_arch.data.prepare import GREY_POLICIES, LQ_PATCH, PRODUCTS, CropGrid, Recipe, prepare
from han_arch.data.verify import Report, verify_folder, verify_pair
from han_arch.errors import UserError

PREPARE = """Make training or test data from a folder of HR images.

Output in the folder OUT for --scale 4 (the names at other scales and for BD follow the same pattern):

  GT_x4/NAME.png            HR images, cropped to sides that are multiples of 4
  LR_BIx4/NAME.png          LR images with the same file names
  GT_sub_x4/NAME_s001.png   HR sub-images of 480 x 480 pixels, step 240
  LR_sub_BIx4/...           LR sub-images at the same positions
  GT_sub_x4.lmdb            LMDB of the HR sub-images, for dataroot_gt in option files
  LR_sub_BIx4.lmdb          LMDB of the LR sub-images, for dataroot_lq; both LMDBs need io_backend: type: lmdb

The command first checks all HR files and lists every file that it cannot use. You can stop the command at any time.
The name of an unfinished data set ends in .partial. To continue, run the same command again. The command does not
change finished data sets."""

PREPARE_EXAMPLES = """  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 2 3 4
  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 4 --only lmdb
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 2 3 4 --benchmark
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 3 --degradation BD --benchmark"""

DOWNLOAD = f"""Download data sets from their official addresses: DIV2K, and the benchmark sets
{", ".join(DOWNLOADS[1:])}. The command downloads HR images. With --scale, it also
downloads the official LR images of DIV2K.

To resume an interrupted download, run the same command again. The command checks the hash of each zip file. If nobody
published a hash, the command records the hash of the first download in OUT/downloads/downloads.json. Later downloads
must have the same hash.

  OUT/DIV2K/DIV2K_train_HR/0001.png               HR images of DIV2K (valid part: DIV2K_valid_HR)
  OUT/DIV2K/DIV2K_train_LR_bicubic_X4/0001x4.png  official LR images at --scale 4 (at --scale 8: DIV2K_train_LR_x8)
  OUT/Set5/HR/img_001.png                         HR images of a benchmark set"""

DOWNLOAD_EXAMPLES = """  basicsr data download DIV2K -o datasets
  basicsr data download DIV2K --scale 4 --split valid -o datasets
  basicsr data download Set5 Set14 B100 Urban100 -o datasets
  basicsr data download --list"""

VERIFY = f"""Check image folders or LMDBs: one data set alone, or a GT set with its LR set.

The command checks:
  - the number of images, and that each GT image has an LR image of the right size
  - that every image can be decoded to its end
  - that an LMDB and its meta_info.txt have the same keys

It also finds out which method made the LR images, and how many pixel values differ from the output of that method.
It knows these methods: {", ".join(CONVENTIONS)}.
Exit status: 0 good, 1 faults found, 2 wrong arguments."""

VERIFY_EXAMPLES = """  basicsr data verify datasets/DIV2K                      all data sets in a folder
  basicsr data verify HR_FOLDER LR_FOLDER --scale 4       GT and LR; each is a folder or an LMDB
  basicsr data verify HR_FOLDER LR_FOLDER --degradation BIx4
  basicsr data verify datasets/DIV2K/GT_sub_x4.lmdb       one data set alone
  basicsr data verify datasets/Set5/HR --benchmark Set5   check that these images are Set5"""

BENCH = """Measure how many samples per second are loaded from an LMDB and from folders, and how many samples per second
the network processes in training. The slower of loading and training is the bottleneck. The option file sets patch
size, batch size and number of workers.
With --imresize, compare the speed of imresize in han_arch and in BasicSR on a 2040x1356 RGB image. The exit status is
1 if han_arch's imresize is slower."""

BENCH_EXAMPLES = """  basicsr data bench -opt options/train_HAN_x4.yml
  basicsr data bench -opt options/train_HAN_x4.yml --no-network
  basicsr data bench --imresize"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `basicsr data` and their arguments to a parser."""
    command = subcommands(parser)
    scales = sorted({scale for kind in DEGRADATIONS.values() for scale in kind.scales})
    kinds = "; ".join(
        f"{kind.name} = {kind.doc} ({' '.join(f'x{scale}' for scale in kind.scales)})" for kind in DEGRADATIONS.values()
    )
    workers = "number of worker processes (default: one per CPU core)"

    # fmt: off
    add = command(
        _prepare, "make LR images, sub-images and LMDBs from a folder of HR images", PREPARE_EXAMPLES, PREPARE)
    add("hr_folder", metavar="HR_FOLDER", type=Path, help="folder with the HR images; sub-folders are skipped")
    add("-o", "--out", metavar="OUT", type=Path, required=True, help="folder for the data sets")
    add("--scale", type=int, nargs="+", required=True, choices=scales, help="one or more scale factors")
    add("--degradation", choices=tuple(DEGRADATIONS), default="BI",
        help=f"method that makes the LR images: {kinds}; default: BI")
    add("--border", choices=BORDERS, default=BORDERS[0],
        help="padding at image borders for BI (default: symmetric); replicate adds _replicate to the LR folder names")
    add("--only", choices=PRODUCTS, nargs="+", default=PRODUCTS,
        help="what to make: images = complete images; sub = sub-images; lmdb = LMDBs of sub-images; default: all three")
    add("--benchmark", action="store_true",
        help="make a test set: complete images without sub-images; small images are allowed; --grey is keep by default")
    add("--crop-size", type=int, default=480, help="side of a sub-image in HR pixels (default: 480)")
    add("--step", type=int, default=240, help="distance between neighbouring sub-images in HR pixels (default: 240)")
    add("--gt-size", type=int,
        help=f"side of a training patch in HR pixels (default: {LQ_PATCH} x scale); HR images must not be smaller")
    add("--grey", choices=GREY_POLICIES,
        help="for grey files: refuse = stop with an error (default); keep = leave them grey; rgb = convert them to RGB")
    add("--workers", type=int, default=default_workers(), help=workers)

    add = command(
        _download, "download DIV2K and the benchmark sets from their official addresses", DOWNLOAD_EXAMPLES, DOWNLOAD)
    add("sets", metavar="SET", nargs="*", help=f"data sets to download: {', '.join(DOWNLOADS)}")
    add("-o", "--out", metavar="OUT", type=Path, default="datasets", help="output folder (default: datasets)")
    add("--scale", type=int, nargs="+", choices=(2, 3, 4, 8), default=[],
        help="also download DIV2K's official LR images at these scales")
    add("--split", nargs="+", choices=SPLITS, default=SPLITS, help="parts of DIV2K to download (default: both)")
    add("--keep-archives", action="store_true", help="keep the zip files after unpacking")
    add("--list", action="store_true", help="list the benchmark sets with licences and problems; download nothing")

    add = command(_verify, "check folders and LMDBs and find out how the LR images were made", VERIFY_EXAMPLES, VERIFY)
    add("gt", metavar="PATH", type=Path, help="folder or LMDB of HR images, or the output folder of `data prepare`")
    add("lr", metavar="LR", type=Path, nargs="?", help="folder or LMDB with the LR images made from PATH's HR images")
    add("--scale", type=int,
        help="scale factor (default: the scale in --degradation, or the size ratio of the first image pair)")
    add("--degradation", help="degradation that the LR images must have, such as BIx4 (default: any)")
    add("--benchmark", metavar="SET", help=f"also check that PATH has the images of this set: {', '.join(BENCHMARKS)}")
    add("--workers", type=int, default=default_workers(), help=workers)

    add = command(
        _bench, "compare the speed of data loading and training; measure the speed of imresize", BENCH_EXAMPLES, BENCH)
    add("-opt", metavar="FILE", type=Path, help="training option file")
    add("--imresize", action="store_true", help="compare the speed of imresize in han_arch and in BasicSR")
    add("--seconds", type=float, default=10, help="duration of each measurement in seconds (default: 10)")
    add("--no-network", action="store_true", help="measure only the data loading, not the training")


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand and return its exit status."""
    return int(args.run_subcommand(args))


def _prepare(args: argparse.Namespace) -> int:
    if args.benchmark:
        recipe = Recipe(products=("images",), grey=args.grey or "keep", patch=0)
    else:
        grid = CropGrid(args.crop_size, args.step)
        recipe = Recipe(tuple(args.only), grid, args.grey or "refuse", args.gt_size or None)
    degradations = [degradation_at(args.degradation, scale, args.border) for scale in sorted(set(args.scale))]
    say(*prepare(args.hr_folder, args.out, degradations, recipe, args.workers))
    return 0


def _download(args: argparse.Namespace) -> int:
    if args.list or not args.sets:
        say(*(line for row in BENCHMARKS.values() for line in row.describe().splitlines()))
        return 0
    for archive in [archive for name in args.sets for archive in archives_of(name, args.scale, args.split)]:
        obtain(archive, args.out, args.keep_archives, say)
    return 0


def _verify(args: argparse.Namespace) -> int:
    degradation = None if args.degradation is None else get_degradation(args.degradation)
    for path in (args.gt, args.lr):
        if path is not None and not path.is_dir():
            raise UserError(f"{path} does not exist or is not a folder")
    faults = 0
    for what, report in _reports(args, degradation):
        say(f"{what}: {'bad' if report.faults else 'good'}")
        say(*(f"  {note}" for note in report.notes), *(f"  BAD {fault}" for fault in report.faults))
        faults += len(report.faults)
    say(f"bad: {faults} faults" if faults else "good")
    return 1 if faults else 0


def _reports(args: argparse.Namespace, degradation: ScaledDegradation | None) -> Iterable[tuple[str, Report]]:
    if args.benchmark is not None:
        yield f"{args.gt} compared with {args.benchmark}", Report(*compare_with_benchmark(args.benchmark, args.gt))
    if args.lr is not None:
        yield f"{args.gt} and {args.lr}", verify_pair(args.gt, args.lr, args.workers, args.scale, degradation)
    else:
        yield from verify_folder(args.gt, args.workers)


def _bench(args: argparse.Namespace) -> int:
    if args.opt is None and not args.imresize:
        raise UserError("nothing to measure; pass -opt FILE or --imresize")
    is_slower = _bench_imresize() if args.imresize else False
    if args.opt is not None:
        _bench_loading(args)
    return int(is_slower)


def _bench_imresize() -> bool:
    results = compare_imresize()
    say("time of imresize on a 2040x1356 RGB image, best of several runs:")
    for scale, ours, theirs in results:
        ratio = f"BasicSR takes {theirs / ours:.2f} times as long"
        say(f"  x1/{scale}: han_arch {ours * 1e3:6.1f} ms, BasicSR {theirs * 1e3:6.1f} ms ({ratio})")
    return any(ours > theirs for _, ours, theirs in results)


def _bench_loading(args: argparse.Namespace) -> None:
    options = read_options(args.opt)
    rates = []
    for rate in loader_rates(options, args.seconds):
        say(f"{rate.per_second:9.1f} samples/s loaded from {rate.what}; first batch after {rate.start:.1f} s")
        rates.append(rate)
    if not args.no_network:
        device, network = network_rate(options, args.seconds)
        say(f"{network:9.1f} samples/s processed when {options['network_g']['type']} trains on {device}")
        say(*(f"{rate.what.split()[0]}: {rate.bottleneck(network)}" for rate in rates))
