"""`basicsr inspect`: arguments and messages, and the crop that is looked at."""

import argparse
import contextlib
import os
import sys
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.images.detail import most_detailed_window
from han_arch.images.strict import ImageError, read_image
from han_arch.inspection.attentions import LayerAttention, SpatialAttention, attentions, most_varied_channels
from han_arch.inspection.attribution import STEPS, Patch, attribute
from han_arch.inspection.figure import Findings, draw
from han_arch.zoo.load import load_model

DESCRIPTION = """Draw what a network does inside on one photo, as one PNG: LAM's matrix over the layers and what it adds
to each, CSAM's gates over the photo, and a local attribution map (Gu and Dong, CVPR 2021): which input pixels a patch
of the output depends on. A large photo is looked at in a window around the patch."""

EXAMPLES = """examples:
  basicsr inspect photo.png --model net_g_latest.pth -o inside.png
  basicsr inspect photo.png --model net_g_latest.pth --patch 120 80 16 --channels 3 17 40
"""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CHANNELS_SHOWN = 4
_MOST_CHANNELS = 8
PATCH_SIZE = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("image", metavar="IMAGE", type=Path, help="a small photo: what the network is to enlarge")
    add("--model", required=True, help="a checkpoint (.pth, .safetensors), or the name of a network of the zoo")
    add("-o", "--out", metavar="PNG", type=Path, default=Path("inspect.png"), help="default: inspect.png")
    add("--overwrite", action="store_true", help="replace a file of that name")
    add(
        "--patch",
        nargs=3,
        type=int,
        metavar=("X", "Y", "SIZE"),
        help=f"left, top and side in pixels of the output; default: the {PATCH_SIZE} x {PATCH_SIZE} with most detail",
    )
    add(
        "--channels",
        nargs="+",
        type=int,
        metavar="C",
        help=f"of CSAM, at most {_MOST_CHANNELS}; default: the {_CHANNELS_SHOWN} whose gate varies most",
    )
    add(
        "--window",
        type=int,
        default=96,
        metavar="N",
        help="input pixels a side that are looked at (default: 96; the attribution of a full-size network takes 2 GB)",
    )
    add("--steps", type=int, default=STEPS, help=f"of the attribution's path (default: {STEPS})")


def run(args: argparse.Namespace) -> int:
    """Look inside and draw; 0."""
    if args.out.suffix != ".png":
        raise UserError(f"-o writes .png files; got {args.out}")
    if args.out.exists() and not args.overwrite:
        raise FileExistsError(f"{args.out} exists; give --overwrite to replace it")
    if args.steps < 1 or args.window < 16:
        raise UserError(f"--steps must be at least 1 and --window 16; got {args.steps} and {args.window}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"matplotlib cannot be imported ({error}); run: pip install 'han_arch[plots]', or pip install matplotlib"
        ) from error
    net = load_model(args.model)
    net.requires_grad_(False)
    findings = _look(net, _read(args.image, net.conv_first.in_channels), args)
    _write(findings, args.out)
    sys.stdout.write(_summary(findings, args.out))
    return 0


def _look(net: HAN, photo: Tensor, args: argparse.Namespace) -> Findings:
    scale, (height, width) = net.upscale, photo.shape[2:]
    patch = None if args.patch is None else _checked_patch(args.patch, scale * height, scale * width)
    lq, x, y = _window(photo, args.window, patch, scale)
    with torch.inference_mode():
        output = net(lq)
    if patch is None:
        size = min(PATCH_SIZE, *output.shape[2:])
        if size < 2:
            raise UserError(f"{args.image} is too small to look into; got {width} x {height} pixels")
        top, left = most_detailed_window(output[0].permute(1, 2, 0).numpy(), size)
        within = Patch(left, top, size)
    else:
        within = Patch(patch.x - scale * x, patch.y - scale * y, patch.size)
    found = attentions(net, lq)
    channels = _channels(found.spatial, args.channels)
    with tqdm(total=args.steps, desc="attribution", unit="step", dynamic_ncols=True, leave=False) as progress:
        attribution = attribute(net, lq, within, args.steps, progress.update)
    window = "{1} x {0}".format(*lq.shape[2:])
    where = f"{window} of {width} x {height} pixels at ({x}, {y})" if lq.shape != photo.shape else f"{window} pixels"
    title = f"{Path(args.model).name}, x{scale}, on {args.image.name} ({where})"
    return Findings(title, lq[0], output[0], scale, found, channels, within, attribution, (x, y))


def _read(path: Path, channels: int) -> Tensor:
    """The photo as the network takes it, (1, channels, h, w) in [0, 1]; alpha is left out."""
    if not path.is_file():
        raise FileNotFoundError(f"no such image: {path}")
    try:
        pixels = torch.from_numpy(read_image(path).copy()).float() / 255
    except (ImageError, OSError) as error:
        raise UserError(str(error)) from error
    pixels = pixels[..., None] if pixels.dim() == 2 else pixels
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]  # (h, w, 1 or 3)
    if channels == 1 and colours.shape[2] == 3:
        colours = (colours @ torch.tensor(_LUMA))[..., None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = colours.expand(-1, -1, 3)
    elif channels != colours.shape[2]:
        raise UserError(f"the network takes {channels} channels; {path} has {colours.shape[2]}")
    return colours.permute(2, 0, 1)[None].contiguous()


def _checked_patch(numbers: list[int], height: int, width: int) -> Patch:
    x, y, size = numbers
    if size < 2 or min(x, y) < 0 or x + size > width or y + size > height:
        raise UserError(f"--patch {x} {y} {size} must lie in the output of {width} x {height} pixels, SIZE at least 2")
    return Patch(x, y, size)


def _window(photo: Tensor, side: int, patch: Patch | None, scale: int) -> tuple[Tensor, int, int]:
    """The part around the patch, or the centre, at most side x side, and its left and top edges in the photo."""
    height, width = photo.shape[2:]
    if patch is not None and patch.size > scale * (side - 2):
        raise UserError(f"--patch SIZE {patch.size} needs --window {patch.size // scale + 3} or more; got {side}")
    x = width // 2 if patch is None else (2 * patch.x + patch.size) // (2 * scale)
    y = height // 2 if patch is None else (2 * patch.y + patch.size) // (2 * scale)
    left = min(max(0, x - side // 2), max(0, width - side))
    top = min(max(0, y - side // 2), max(0, height - side))
    return photo[:, :, top : top + side, left : left + side].contiguous(), left, top


def _channels(spatial: SpatialAttention | str, wanted: list[int] | None) -> list[int]:
    if isinstance(spatial, str):
        return []
    count = len(spatial.gate)
    if wanted is None:
        return most_varied_channels(spatial.gate, min(_CHANNELS_SHOWN, count))
    if len(wanted) > _MOST_CHANNELS or not all(0 <= channel < count for channel in wanted):
        raise UserError(f"--channels takes at most {_MOST_CHANNELS} numbers of 0 to {count - 1}; got {wanted}")
    return wanted


def _write(findings: Findings, path: Path) -> None:
    """Beside, then renamed."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(findings, part)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _summary(findings: Findings, path: Path) -> str:
    lines = [f"{path}: {findings.title}"]
    layer, spatial = findings.attentions.layer, findings.attentions.spatial
    if isinstance(layer, LayerAttention):
        adds = f"adds up to {layer.gain.max():.2%} to a layer" if layer.alpha else "adds nothing"
        lines.append(f"  LAM ({layer.form}): alpha {layer.alpha:.4g}, {adds}")
    else:
        lines.append(f"  {layer}")
    if isinstance(spatial, SpatialAttention):
        note = "; 0 changes nothing" if spatial.beta == 0 else ""
        lines.append(
            f"  CSAM: beta {spatial.beta:.4g}{note}, gates {spatial.gate.min():.2f} to {spatial.gate.max():.2f}"
        )
    else:
        lines.append(f"  {spatial}")
    patch = findings.patch_in_photo
    lines.append(
        f"  diffusion index {findings.attribution.diffusion:.1f} of the {patch.size} x {patch.size} patch at "
        f"({patch.x}, {patch.y}) of the output"
    )
    return "\n".join(lines) + "\n"
