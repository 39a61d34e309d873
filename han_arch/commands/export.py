"""`basicsr export`: arguments and messages; the work stands in exporting.py."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from han_arch.errors import UserError
from han_arch.export.check import TOLERANCE, psnr
from han_arch.export.runtime import load_runtime
from han_arch.export.targets import SUFFIXES, WRITERS
from han_arch.export.write import STEPS, export, output_path
from han_arch.zoo.load import load_model

DESCRIPTION = f"""Write a network for ONNX Runtime, OpenVINO or torch.export, with batch, height and width left free.
The file is run by its own runtime on three sizes and compared with PyTorch before it takes its name; more than
{TOLERANCE} of 255 in any pixel refuses it. It maps RGB (or grey) in [0, 1] to the same, not clamped, and its metadata
tell scale, channels and the SHA-256 of the weights. A full-size network takes a few minutes."""

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
    add("--to", choices=list(WRITERS), required=True, help="what the file is for")
    suffixes = ", ".join(found[0] for found in SUFFIXES.values())
    add("-o", "--out", metavar="PATH", type=Path, help=f"file ({suffixes}) or folder; default: MODEL's name, here")
    add("--overwrite", action="store_true", help="replace a file of that name")


def run(args: argparse.Namespace) -> int:
    """Export, and print what was compared; 0."""
    path = output_path(args.model, args.to, args.out)
    net = load_model(args.model)
    with tqdm(total=STEPS, desc=f"tracing for {args.to}", unit="step", dynamic_ncols=True, leave=False) as progress:

        def done(step: str) -> None:
            progress.set_description(step)
            progress.update()

        checks = export(net, args.model, args.to, path, args.overwrite, done)
    size = sum(path.with_suffix(suffix).stat().st_size for suffix in SUFFIXES[args.to])
    sys.stdout.write(f"{path}: x{net.upscale}, {size / 1e6:.1f} MB, same pixels as PyTorch:\n")
    for check in checks:
        sys.stdout.write(f"  {check}\n")
    if args.to == "openvino":
        try:
            ratio = psnr(net, load_runtime(path, "openvino", dtype="bfloat16"))
        except UserError as error:
            sys.stdout.write(f"  bfloat16 was not tried: {error}\n")
        else:
            sys.stdout.write(f"  in bfloat16: {ratio:.1f} dB from float32 (59 dB is what rounding to 8 bits costs)\n")
    return 0
