"""The command `basicsr upscale`: its arguments and its exit status."""

import argparse

from han_arch.commands import say, warn
from han_arch.errors import printable
from han_arch.export.runtime import RUNTIMES, choose_engine
from han_arch.images.formats import FORMATS, WRITTEN, listed
from han_arch.images.read import MAX_PIXELS
from han_arch.images.write import WriteOptions
from han_arch.inference.engines import DEVICES
from han_arch.inference.files import UpscaleSettings, upscale_files
from han_arch.inference.jobs import Outputs, collect
from han_arch.inference.plan import DEFAULT_BUDGET, parse_size
from han_arch.speed.precision import PRECISIONS

DESCRIPTION = f"""Enlarge images by super-resolution: files, folders with their subfolders, patterns, or standard input.

Reads {listed((form.label for form in FORMATS.values()), "and")}: 8 or 16 bits, grey or colour, with or without alpha.
Writes {listed((form.label for form in WRITTEN.values()), "and")}.
Keeps the format of each image, unless --format or OUT selects another one. BMP becomes PNG.
Applies the EXIF orientation. Keeps the ICC profile and DPI. Replaces existing files only with --overwrite.
Exit status: 0 if all images were upscaled, 1 if some failed or were left out (each is named), 2 if none was started."""

EXAMPLES = """examples:
  basicsr upscale photo.jpg -o large.png             four times as wide and high
  basicsr upscale photos -o large                    a folder with all its subfolders
  basicsr upscale "scans/*.tif" -o large --scale 2 --format png
  basicsr upscale photo.jpg -o . --suffix _x4 --model net_g_latest.pth --compare
  basicsr upscale photo.jpg -o large.png --model han-s-x4.onnx --runtime onnx
  cat photo.jpg | basicsr upscale - -o - --format jpeg > large.jpg
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of `basicsr upscale` to a parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    lossy = listed((form.label for form in WRITTEN.values() if form.lossy), "and")
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="image file, folder, pattern such as '*.png', or - for standard input")
    add("-o", "--out", metavar="OUT", required=True, help="output folder, output file, or - for standard output")
    add = parser.add_argument_group("model").add_argument
    add("--model", metavar="MODEL", help="name of a zoo model, or checkpoint file (default: han-s-xN for --scale N)")
    add("--scale", type=int, choices=(2, 3, 4, 8), help="scale factor (default: MODEL's factor, or 4 without --model)")
    add("--self-ensemble", action="store_true",
        help="average the outputs for 8 flipped or rotated inputs; slightly better, 8 times as slow")  # fmt: skip
    add("--dtype", choices=tuple(PRECISIONS), default="fp32", help="precision of the computation (default: fp32)")
    add("--winograd", action="store_true",
        help="use Winograd's algorithm: saves about 1/3 of the time for fp32 on a CPU; needs a C compiler")  # fmt: skip
    runtime = f"library that runs MODEL (default: torch); {listed(RUNTIMES)} needs a file from basicsr export"
    add("--runtime", choices=("torch", *RUNTIMES), default="torch", help=runtime)
    device = "device that runs the model (default: auto, the first available)"
    add("--device", default="auto", metavar="|".join(DEVICES), help=device)
    add("--memory", default=DEFAULT_BUDGET, metavar="SIZE",
        help="memory limit of the program, not counting the output image (default: 2G)")  # fmt: skip
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--format", choices=tuple(WRITTEN),
        help="output format (default: the format of OUT's suffix, else the format of the input, else PNG)")  # fmt: skip
    add("--quality", type=int, default=95, metavar="1..100", help=f"quality of {lossy} files (default: 95)")
    add("--lossless", action="store_true", help="write lossless WebP files")
    add(
        "--png-level", type=int, default=6, metavar="0..9", help="compression level of PNG and 16-bit TIFF (default: 6)"
    )
    add("--suffix", default="", help="text to append to the names of output files, such as _x4")
    add("--compare", action="store_true", help="also write NAME_compare.png: bicubic on the left, output on the right")
    there = files.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace existing files")
    there.add_argument("--skip-existing", action="store_true", help="skip images that already have an output file")
    add("--max-pixels", default=str(MAX_PIXELS), metavar="N", help="largest input image, in pixels (default: 256M)")


def run(args: argparse.Namespace) -> int:
    """Run the command. Return its exit status: 0 if all images were upscaled, 1 if an image failed or was left out."""
    settings = UpscaleSettings(
        write=WriteOptions(args.quality, args.lossless, args.png_level),
        budget=parse_size(args.memory),
        memory=args.memory,
        self_ensemble=args.self_ensemble,
        overwrite=args.overwrite,
        max_pixels=parse_size(args.max_pixels, "--max-pixels"),
    )
    outputs = Outputs(args.out, args.format, args.suffix, args.compare, args.overwrite, args.skip_existing)
    jobs, found = collect(args.paths, outputs)
    failed = 0
    if jobs:
        engine = choose_engine(args.runtime, args.model, args.scale, args.device, args.dtype, args.winograd)
        failed = upscale_files(jobs, engine, settings)
    else:
        say("all output files exist already; nothing to do")
    for line in found.report():
        warn(printable(f"basicsr upscale: {line}"))
    if failed and len(jobs) > 1:
        warn(f"basicsr upscale: {failed} of {len(jobs)} images failed")
    return 1 if failed or found.left_out else 0
