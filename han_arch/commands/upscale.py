"""`basicsr upscale`: arguments and exit status."""

import argparse
import sys

from han_arch.export.runtime import RUNTIMES, choose_engine
from han_arch.images.formats import FORMATS, WRITTEN, listed
from han_arch.images.read import MAX_PIXELS
from han_arch.images.write import WriteOptions
from han_arch.inference.engines import DEVICES
from han_arch.inference.files import Outputs, UpscaleSettings, collect, upscale_files
from han_arch.inference.plan import DEFAULT_BUDGET, parse_size
from han_arch.speed.precision import PRECISIONS

DESCRIPTION = f"""Super-resolve images: files, folders with their subfolders, patterns, or standard input.

Reads {listed((form.label for form in FORMATS.values()), "and")}: 8 or 16 bit, grey or colour, with or without alpha.
Writes {listed((form.label for form in WRITTEN.values()), "and")}.
Keeps each image's format unless --format is given. Applies EXIF orientation; keeps ICC profile and DPI.
Overwrites nothing without --overwrite.
Exit status: 0 all done, 1 some failed (each is reported), 2 nothing was started."""

EXAMPLES = """examples:
  basicsr upscale photo.jpg -o large.png             four times the size
  basicsr upscale photos -o large                    a folder, and all folders in it
  basicsr upscale "scans/*.tif" -o large --scale 2 --format png
  basicsr upscale photo.jpg -o . --suffix _x4 --model net_g_latest.pth --compare
  basicsr upscale photo.jpg -o large.png --model han-s-x4.onnx --runtime onnx
  cat photo.jpg | basicsr upscale - -o - --format jpeg > large.jpg
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    lossy = listed((form.label for form in WRITTEN.values() if form.lossy), "and")
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="an image, a folder, a pattern, or - for standard input")
    add("-o", "--out", metavar="OUT", required=True, help="a folder, an image's name, or - for standard output")
    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="MODEL", help="a network's name or checkpoint (default: han-s-x4, or by --scale)")
    add("--scale", type=int, choices=(2, 3, 4, 8), help="how many times larger (default: the model's, 4)")
    add("--self-ensemble", action="store_true", help="mean of eight turned copies: 8 times the time, slightly better")
    add("--dtype", choices=tuple(PRECISIONS), default="fp32", help="the network's precision (default: fp32)")
    add("--winograd", action="store_true", help="fp32 on a CPU in about two thirds of the time; needs a C compiler")
    add(
        "--runtime",
        choices=("torch", *RUNTIMES),
        default="torch",
        help=f"{', '.join(RUNTIMES)}: MODEL is from basicsr export",
    )
    add("--device", default="auto", metavar="|".join(DEVICES), help="default: auto, the first available")
    add("--memory", default=DEFAULT_BUDGET, metavar="SIZE", help="for the process, without the result (default: 2G)")
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--format", choices=tuple(WRITTEN), help="of the results (default: by OUT's or the source's name)")
    add("--quality", type=int, default=95, metavar="1..100", help=f"of {lossy} (default: 95)")
    add("--lossless", action="store_true", help="write WebP without loss")
    add("--png-level", type=int, default=6, metavar="0..9", help="compression of PNG and 16-bit TIFF (default: 6)")
    add("--suffix", default="", help="appended to the results' names, such as _x4")
    add("--compare", action="store_true", help="also write NAME_compare.png: bicubic on the left, the result right")
    there = files.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace existing results")
    there.add_argument("--skip-existing", action="store_true", help="skip images that have a result")
    add("--max-pixels", default=str(MAX_PIXELS), metavar="N", help="reject larger images (default: 256M)")


def run(args: argparse.Namespace) -> int:
    """Upscale; return 1 when an image failed."""
    settings = UpscaleSettings(
        write=WriteOptions(args.quality, args.lossless, args.png_level),
        budget=parse_size(args.memory),
        memory=args.memory,
        self_ensemble=args.self_ensemble,
        overwrite=args.overwrite,
        max_pixels=parse_size(args.max_pixels, "--max-pixels"),
    )
    outputs = Outputs(args.out, args.format, args.suffix, args.compare, args.overwrite, args.skip_existing)
    jobs = collect(args.paths, outputs)
    if not jobs:
        sys.stdout.write("all results exist already\n")
        return 0
    engine = choose_engine(args.runtime, args.model, args.scale, args.device, args.dtype, args.winograd)
    failed = upscale_files(jobs, engine, settings)
    if failed and len(jobs) > 1:
        sys.stderr.write(f"basicsr upscale: {failed} of {len(jobs)} images failed\n")
    return 1 if failed else 0
