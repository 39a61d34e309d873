"""`basicsr data prepare`: arguments and messages; the work stands in prepare.py."""

import argparse
import sys
from pathlib import Path

from han_arch.data.crops import CropGrid
from han_arch.data.degradation import degradations
from han_arch.data.imresize import BORDERS
from han_arch.data.parallel import default_workers
from han_arch.data.prepare import PRODUCTS, Recipe, prepare
from han_arch.data.sources import GREY_POLICIES

LQ_PATCH = 48  # the LR patch that HAN is trained with

DESCRIPTION = """Make training or test data from a folder of HR images.

What it writes into OUT, here for --scale 4 (BDx3, x2, x3 and x8 likewise):

  GT_x4/NAME.png            HR, cut to sides that are multiples of 4
  LR_BIx4/NAME.png          its LR, same file name
  GT_sub_x4/NAME_s001.png   HR sub-images, 480 x 480, step 240
  LR_sub_BIx4/...           the same places of the LR image
  GT_sub_x4.lmdb            the sub-images as LMDBs for BasicSR:
  LR_sub_BIx4.lmdb            dataroot_gt, dataroot_lq with io_backend: type: lmdb

All HR files are checked first, and every one that cannot be used is named. Stop the command at any moment: what is
not finished is called NAME.partial, and the same command goes on from there. What is finished is left alone."""

EXAMPLES = """examples:
  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 2 3 4
  basicsr data prepare datasets/DIV2K/DIV2K_train_HR -o datasets/DIV2K --scale 4 --only lmdb
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 2 3 4 --benchmark
  basicsr data prepare Set5/HR -o datasets/Set5 --scale 3 --degradation BD --benchmark
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("hr_folder", metavar="HR_FOLDER", type=Path, help="the HR images (not in sub-folders)")
    add("-o", "--out", metavar="OUT", type=Path, required=True, help="where the data sets go")
    add("--scale", type=int, nargs="+", required=True, choices=(2, 3, 4, 8), help="one or more scales")
    add("--degradation", choices=("BI", "BD"), default="BI", help="BI: MATLAB's bicubic (default); BD: x3 only")
    add("--border", choices=BORDERS, default="symmetric", help="border of BI; replicate makes LR_BIx4_replicate")
    add("--only", choices=PRODUCTS, nargs="+", default=PRODUCTS, help="make these only (default: all)")
    add("--benchmark", action="store_true", help="a test set: whole images only, any size, grey files stay grey")
    add("--crop-size", type=int, default=480, help="side of a sub-image in HR pixels (default: 480)")
    add("--step", type=int, default=240, help="distance between sub-images (default: 240)")
    add("--gt-size", type=int, help=f"training patch that every image must contain (default: {LQ_PATCH} x scale)")
    add("--grey", choices=GREY_POLICIES, help="grey files: refuse (default), keep, or three equal channels")
    add("--workers", type=int, default=default_workers(), help="processes (default: one for each core)")


def run(args: argparse.Namespace) -> int:
    """Prepare and say what stands where."""
    scales = sorted(set(args.scale))
    if args.benchmark:
        recipe = Recipe(products=("images",), grey=args.grey or "keep")
        patches = [0 for _ in scales]
    else:
        recipe = Recipe(tuple(args.only), CropGrid(args.crop_size, args.step), args.grey or "refuse")
        patches = [args.gt_size or LQ_PATCH * scale for scale in scales]
    made = prepare(
        args.hr_folder, args.out, degradations(args.degradation, scales, args.border), recipe, patches, args.workers
    )
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0
