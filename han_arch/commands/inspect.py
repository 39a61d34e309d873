"""`basicsr inspect`: read the arguments, inspect, draw, and print the numbers."""

import argparse
import sys
from functools import partial
from pathlib import Path

from tqdm import tqdm

from han_arch.inspection.attentions import CHANNELS_SHOWN, MOST_CHANNELS, LayerAttention, SpatialAttention
from han_arch.inspection.attribution import STEPS, Patch
from han_arch.inspection.figure import check_figure_path, write_figure
from han_arch.inspection.inspection import PATCH_SIZE, Inspection, View, inspect_network
from han_arch.zoo.load import load_model

DESCRIPTION = """Draw the inside of a network on one photo, as one PNG:
- LAM's matrix over the layers, and its addition to each layer;
- CSAM's gates over the photo;
- a local attribution map (Gu and Dong, CVPR 2021): the input pixels that a patch of the output depends on.
Of a large photo, the command inspects a window around the patch."""

EXAMPLES = """examples:
  basicsr inspect photo.png --model net_g_latest.pth -o inside.png
  basicsr inspect photo.png --model net_g_latest.pth --patch 120 80 16 --channels 3 17 40
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="a small photo, the network's input")
    add("--model", required=True, help="a checkpoint (.pth, .safetensors), or the name of a network of the zoo")
    add("-o", "--out", metavar="PNG", type=Path, default=Path("inspect.png"), help="default: inspect.png")
    add("--overwrite", action="store_true", help="replace an existing file")
    patch = f"left, top and side in pixels of the output; default: the {PATCH_SIZE} x {PATCH_SIZE} with most detail"
    add("--patch", nargs=3, type=int, metavar=("X", "Y", "SIZE"), help=patch)
    channels = f"of CSAM, at most {MOST_CHANNELS}; default: the {CHANNELS_SHOWN} that vary most"
    add("--channels", nargs="+", type=int, metavar="C", help=channels)
    window = "side of the window in input pixels (default: 96; the attribution of a full-size network takes 2 GB)"
    add("--window", type=int, default=View.window, metavar="N", help=window)
    add("--steps", type=int, default=STEPS, help=f"of the attribution's path (default: {STEPS})")


def run(args: argparse.Namespace) -> int:
    """Inspect, draw and print; return 0."""
    check_figure_path(args.out, args.overwrite)
    view = View(args.patch and Patch(*args.patch), args.channels, args.window, args.steps)
    net = load_model(args.model)
    net.requires_grad_(False)
    progress = partial(tqdm, desc="attribution", unit="step", dynamic_ncols=True, leave=False)
    inspection = inspect_network(net, Path(args.model).name, args.image, view, progress)
    write_figure(inspection, args.out)
    sys.stdout.write(f"{args.out}: {inspection.title}\n")
    sys.stdout.writelines(f"  {line}\n" for line in _numbers(inspection))
    return 0


def _numbers(inspection: Inspection) -> list[str]:
    layer, spatial, patch = inspection.attentions.layer, inspection.attentions.spatial, inspection.patch_in_photo
    if isinstance(layer, LayerAttention):
        adds = f"adds up to {layer.gain.max():.2%} to a layer" if layer.alpha else "adds nothing"
        layer = f"LAM ({layer.form}): alpha {layer.alpha:.4g}, {adds}"
    if isinstance(spatial, SpatialAttention):
        note = "" if spatial.beta else "; 0 changes nothing"
        gates = f"gates {spatial.gate.min():.2f} to {spatial.gate.max():.2f}"
        spatial = f"CSAM: beta {spatial.beta:.4g}{note}, {gates}"
    square = f"{patch.size} x {patch.size} patch at ({patch.x}, {patch.y}) of the output"
    return [layer, spatial, f"diffusion index {inspection.attribution.diffusion:.1f} of the {square}"]
