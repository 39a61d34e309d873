"""`basicsr export`: read the arguments, export, and print the comparisons."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.export.runtime import load_runtime
from han_arch.export.targets import TARGETS
from han_arch.export.write import STEPS, TOLERANCE, export, output_path, psnr
from han_arch.zoo.load import load_model

DESCRIPTION = f"""Write a network for {", ".join(target.title for target in TARGETS.values())}.
Batch, height and width stay free. The command runs each file in its own runtime on three sizes and compares the pixels
with PyTorch's; it removes a file that differs by more than {TOLERANCE} of 255 in any pixel. The network maps RGB (or
grey) in [0, 1] to the same range, not clamped. The metadata hold scale, channels and the SHA-256 of the weights.
A full-size network takes a few minutes."""

EXAMPLES = """examples:
  basicsr export net_g_latest.pth --to onnx
  basicsr export net_g_latest.pth --to openvino -o exported/han_x4.xml
  basicsr export net_g_latest.pth --to torch --overwrite
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint (.pth, .safetensors), or the name of a network of the zoo")
    add("--to", choices=tuple(TARGETS), required=True, help="the runtime that will read the file")
    suffixes = ", ".join(target.suffix for target in TARGETS.values())
    add("-o", "--out", metavar="PATH", type=Path, help=f"a file ({suffixes}) or a folder; default: MODEL's name, here")
    add("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
    """Export and print the comparisons; return 0."""
    target = TARGETS[args.to]
    path = output_path(args.model, args.to, args.out)
    net = load_model(args.model)
    with tqdm(total=STEPS, desc=f"tracing for {args.to}", unit="step", dynamic_ncols=True, leave=False) as progress:

        def done(step: str) -> None:
            progress.set_description(step)
            progress.update()

        checks = export(net, args.model, args.to, path, args.overwrite, done)
    size = sum(path.with_suffix(suffix).stat().st_size for suffix in target.suffixes)
    sys.stdout.write(f"{path}: x{net.upscale}, {size / 1e6:.1f} MB, same pixels as PyTorch:\n")
    for check in checks:
        sys.stdout.write(f"  {check}\n")
    for precision in target.precisions[1:]:
        name = precision.long_name
        try:
            ratio = psnr(net, load_runtime(path, args.to, dtype=name))
        except UserError as error:
            sys.stdout.write(f"  {name} was not tried: {error}\n")
        else:
            sys.stdout.write(f"  in {name}: {ratio:.1f} dB from float32 (rounding to 8 bits costs 59 dB)\n")
    return 0
