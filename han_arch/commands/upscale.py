"""`basicsr upscale`: arguments, messages and exit status; the work stands in upscale_files.py."""

import argparse
import sys
from pathlib import Path

from han_arch.errors import UserError
from han_arch.export.runtime import RUNTIMES
from han_arch.images.read import MAX_PIXELS
from han_arch.images.write import SUFFIXES, Style
from han_arch.inference.engines import DEVICES, DTYPES, Engine, get_engine
from han_arch.inference.files import Settings, upscale_files
from han_arch.inference.jobs import STREAM, Job, collect, existing
from han_arch.inference.memory import DEFAULT, parse_size
from han_arch.inference.runtime_engine import RuntimeEngine

DESCRIPTION = """Super-resolve photos: files, folders with all that is below them, patterns, or standard input.

PNG, JPEG, WebP, TIFF and BMP are read, 8 or 16 bit, grey or colour, with or without alpha; PNG, JPEG, WebP and TIFF
are written, each in its source's format unless --format says otherwise. EXIF orientation is applied; ICC profile and
DPI are kept. Nothing is overwritten without --overwrite.
Exit status: 0 all done, 1 some failed (they are named), 2 nothing was begun."""

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
    add = parser.add_argument
    add("paths", metavar="PATH", nargs="+", help="an image, a folder, a pattern, or - for standard input")
    add("-o", "--out", metavar="OUT", required=True, help="a folder, an image's name, or - for standard output")
    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--model", metavar="MODEL", help="a network's name or checkpoint (default: han-s-x4, or as --scale says)")
    add("--scale", type=int, choices=(2, 3, 4, 8), help="how many times larger (default: the model's, 4)")
    add("--self-ensemble", action="store_true", help="mean of eight turned copies: 8 times the time, slightly better")
    add("--dtype", choices=tuple(DTYPES), default="fp32", help="what the network computes in (default: fp32)")
    add("--winograd", action="store_true", help="fp32 on a CPU in about two thirds of the time; needs a C compiler")
    add("--runtime", choices=("torch", *RUNTIMES), default="torch", help="onnx, openvino: MODEL is from basicsr export")
    add("--device", default="auto", metavar="|".join(DEVICES), help="default: auto, the first that is there")
    add("--memory", default=DEFAULT, metavar="SIZE", help=f"for the process, besides the result (default: {DEFAULT})")
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--format", choices=tuple(SUFFIXES), help="of the results (default: as OUT's or the source's name says)")
    add("--quality", type=int, default=95, metavar="1..100", help="of JPEG and WebP (default: 95)")
    add("--lossless", action="store_true", help="WebP without loss")
    add("--png-level", type=int, default=6, metavar="0..9", help="how hard PNG and 16-bit TIFF compress (default: 6)")
    add("--suffix", default="", help="appended to the results' names, such as _x4")
    add("--compare", action="store_true", help="also write NAME_compare.png: bicubic on the left, the result right")
    there = files.add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="replace results that are there")
    there.add_argument("--skip-existing", action="store_true", help="leave out images whose results are there")
    add("--max-pixels", default=str(MAX_PIXELS), metavar="N", help="larger images are refused (default: 256M)")


def run(args: argparse.Namespace) -> int:
    """Upscale; 1 when an image failed."""
    _check(args)
    settings = Settings(
        styles={name: Style(name, args.quality, args.lossless, args.png_level) for name in SUFFIXES},
        budget=parse_size(args.memory),
        memory=args.memory,
        self_ensemble=args.self_ensemble,
        compare=args.compare,
        overwrite=args.overwrite,
        max_pixels=parse_size(args.max_pixels, "--max-pixels"),
    )
    jobs = _jobs(args)
    if not jobs:
        sys.stdout.write("all results are there\n")
        return 0
    engine = _engine(args)
    if args.scale not in (None, engine.scale):
        raise UserError(f"--scale {args.scale} does not fit {engine.name}, which is for x{engine.scale}")
    failed = upscale_files(jobs, engine, settings)
    if failed and len(jobs) > 1:
        sys.stderr.write(f"basicsr upscale: {failed} of {len(jobs)} images failed\n")
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality must be 1 to 100; got {args.quality}")
    if not 0 <= args.png_level <= 9:
        raise UserError(f"--png-level must be 0 to 9; got {args.png_level}")
    if Path(args.suffix).name != args.suffix:
        raise UserError(f"--suffix must be part of a name, such as _x4; got {args.suffix!r}")
    if args.out == STREAM and (args.compare or sys.stdout.isatty()):
        raise UserError("-o - writes the image to standard output: send that into a file or a pipe, without --compare")


def _engine(args: argparse.Namespace) -> Engine:
    if args.runtime == "torch":
        return get_engine(args.model or f"han-s-x{args.scale or 4}", args.device, args.dtype, args.winograd)
    if args.winograd:
        raise UserError(f"--winograd is for --runtime torch; got {args.runtime}")
    if args.model is None:
        suffix = RUNTIMES[args.runtime]
        raise UserError(f"--runtime {args.runtime} needs --model with a {suffix} file; basicsr export writes one")
    return RuntimeEngine(args.model, args.runtime, args.device, args.dtype)


def _jobs(args: argparse.Namespace) -> list[Job]:
    jobs = collect(args.paths, args.out, args.format, args.suffix)
    if args.skip_existing:
        jobs = [job for job in jobs if not existing([job], compare=False)]
    there = existing(jobs, args.compare)
    if there and not args.overwrite:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise UserError(f"{there[0]}{more} would be overwritten; --overwrite or --skip-existing says what to do")
    return jobs
