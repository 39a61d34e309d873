"""`basicsr inspect`: draw the attentions and a local attribution map of a network; print a summary in numbers."""

import argparse
from functools import partial
from pathlib import Path

from tqdm import tqdm

from han_arch.commands import MODEL_HELP, say
from han_arch.inspection.attentions import CHANNELS_SHOWN, MOST_CHANNELS, LayerAttention, SpatialAttention
from han_arch.inspection.attribution import STEPS, Patch
from han_arch.inspection.figure import check_figure_path, write_figure
from han_arch.inspection.inspection import PATCH_SIZE, Inspection, View, inspect_network
from han_arch.zoo.load import load_model

DESCRIPTION = """Run a network on one photo and draw, in one PNG file:
- the weight matrix of LAM (layer attention), and how much LAM adds to each layer;
- the gates of CSAM (channel-spatial attention) over the photo;
- a local attribution map (Gu and Dong, CVPR 2021): the input pixels that a patch of the output depends on.
If the photo is larger than --window, the command inspects only a window around the patch."""

EXAMPLES = """examples:
  basicsr inspect photo.png --model net_g_latest.pth -o inside.png
  basicsr inspect photo.png --model net_g_latest.pth --patch 120 80 16 --channels 3 17 40
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the description, the examples and the arguments to the parser."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="photo to run the network on")
    add("--model", required=True, help=MODEL_HELP)
    add("-o", "--out", metavar="PNG", type=Path, default="inspect.png", help="PNG file to write (default: inspect.png)")
    add("--overwrite", action="store_true", help="replace an existing PNG file")
    patch = f"the {PATCH_SIZE} x {PATCH_SIZE} patch with most detail"
    add("--patch", nargs=3, type=int, metavar=("X", "Y", "SIZE"),
        help=f"left edge, top edge and side of a patch, in output pixels (default: {patch})")  # fmt: skip
    channels = f"at most {MOST_CHANNELS} (default: the {CHANNELS_SHOWN} that vary most)"
    add("--channels", nargs="+", type=int, metavar="C", help=f"indices of the CSAM channels to draw, {channels}")
    window = "largest side of the inspected window, in input pixels (default: 96; this needs 2 GB for a full-size HAN)"
    add("--window", type=int, default=View.window, metavar="N", help=window)
    add("--steps", type=int, default=STEPS, help=f"number of steps for the attribution map (default: {STEPS})")


def run(args: argparse.Namespace) -> int:
    """Inspect the network, write the PNG file and print the summary. Return 0."""
    check_figure_path(args.out, args.overwrite)
    view = View(args.patch and Patch(*args.patch), args.channels, args.window, args.steps)
    net = load_model(args.model)
    net.requires_grad_(False)
    progress = partial(tqdm, desc="attribution", unit="step", dynamic_ncols=True, leave=False)
    inspection = inspect_network(net, Path(args.model).name, args.image, view, progress)
    write_figure(inspection, args.out, overwrite=args.overwrite)
    say(f"{args.out}: {inspection.title}", *(f"  {line}" for line in _numbers(inspection)))
    return 0


def _numbers(inspection: Inspection) -> list[str]:
    layer, spatial, patch = inspection.attentions.layer, inspection.attentions.spatial, inspection.patch_in_photo
    if isinstance(layer, LayerAttention):
        adds = f"adds at most {layer.gain.max():.2%} of a layer's norm" if layer.alpha else "adds nothing"
        layer = f"LAM ({layer.form} form): alpha {layer.alpha:.4g}, {adds}"
    if isinstance(spatial, SpatialAttention):
        note = "" if spatial.beta else " (changes nothing)"
        gates = f"gates from {spatial.gate.min():.2f} to {spatial.gate.max():.2f}"
        spatial = f"CSAM: beta {spatial.beta:.4g}{note}, {gates}"
    square = f"{patch.size} x {patch.size} output patch at ({patch.x}, {patch.y})"
    return [layer, spatial, f"diffusion index {inspection.attribution.diffusion:.1f} for the {square}"]
