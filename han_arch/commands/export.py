"""`basicsr export`: export a network, run the exported file, and compare its output with PyTorch's output."""

import argparse
from pathlib import Path

from tqdm import tqdm

from han_arch.commands import MODEL_HELP, say
from han_arch.errors import UserError
from han_arch.export.runtime import load_runtime
from han_arch.export.targets import TARGETS
from han_arch.export.write import STEPS, TOLERANCE, export, output_path, psnr
from han_arch.images.formats import listed
from han_arch.zoo.load import load_model

DESCRIPTION = f"""Export a network to a file for {listed(target.title for target in TARGETS.values())}.
The exported network accepts any batch size, height and width. Its input and output are RGB (or grey) images with
values in [0, 1]; the output is not clamped. The metadata of the file contain the scale, the number of channels and the
SHA-256 of the weights. The command runs the file in its runtime on three test images and compares the pixels with
PyTorch's. If a pixel value (0..255) differs by more than {TOLERANCE}, the command removes the file and reports
an error. The export of a full-size network takes a few minutes."""

EXAMPLES = """examples:
  basicsr export net_g_latest.pth --to onnx
  basicsr export net_g_latest.pth --to openvino -o exported/han_x4.xml
  basicsr export net_g_latest.pth --to torch --overwrite
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the examples and the arguments to the parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("--to", choices=tuple(TARGETS), required=True, help="runtime that will run the exported file")
    suffixes = ", ".join(target.suffix for target in TARGETS.values())
    out = f"file to write ({suffixes}) or a folder (default: a file with MODEL's name in the current folder)"
    add("-o", "--out", metavar="PATH", type=Path, help=out)
    add("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Export the network and print the comparisons with PyTorch. Return 0."""
    target = TARGETS[args.to]
    path = output_path(args.model, args.to, args.out)
    net = load_model(args.model)
    with tqdm(total=STEPS, desc=f"tracing for {args.to}", unit="step", dynamic_ncols=True, leave=False) as progress:

        def done(step: str) -> None:
            progress.set_description(step)
            progress.update()

        checks = export(net, args.model, args.to, path, args.overwrite, done)
    size = sum(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    say(f"{path}: x{net.upscale}, {size / 1e6:.1f} MB, same output as PyTorch except for rounding, on these images:")
    say(*(f"  {check}" for check in checks))
    for precision in target.precisions[1:]:
        name = precision.long_name
        try:
            ratio = psnr(net, load_runtime(path, args.to, dtype=name))
        except UserError as error:
            say(f"  the network in precision {name} could not be measured: {error}")
        else:
            say(f"  precision {name}: PSNR {ratio:.1f} dB against float32 (for comparison, rounding to 8 bits: 59 dB)")
    return 0
