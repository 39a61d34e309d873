"""The inspection of a network on one photo: its attentions and the attribution of a patch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.images.picture import ImageError, most_detailed_window
from han_arch.images.read import read_image
from han_arch.inference.pixels import LUMA
from han_arch.inspection.attentions import Attentions, attentions, channels_to_show
from han_arch.inspection.attribution import STEPS, Attribution, Patch, attribute, window_around

PATCH_SIZE = 16


@dataclass(frozen=True)
class View:
    """The part of a network and of a photo to inspect."""

    patch: Patch | None = None  # in the whole output; None takes the PATCH_SIZE x PATCH_SIZE with most detail
    channels: list[int] | None = None  # of CSAM; None takes those that vary most
    window: int = 96  # side of the inspected part of the photo, in its pixels
    steps: int = STEPS  # of the attribution's path

    def __post_init__(self) -> None:
        if self.steps < 1 or self.window < 16:
            raise UserError(f"--steps must be at least 1 and --window 16; got {self.steps} and {self.window}")


@dataclass(frozen=True)
class Inspection:
    """A network inspected on one window of a photo. Images are (channels, h, w) in [0, 1]."""

    title: str  # names network and photo
    lq: Tensor  # the window
    output: Tensor  # the network's result for it
    scale: int
    attentions: Attentions
    channels: list[int]  # of CSAM's gate, to draw
    patch: Patch  # in output
    patch_in_photo: Patch  # in the output of the whole photo, as `--patch` takes it
    attribution: Attribution  # of the patch


def inspect_network(
    net: HAN,
    name: str,
    image: Path,
    view: View,
    progress: Callable[[range], Iterable[int]] = lambda steps: steps,
) -> Inspection:
    """Run a network on a photo and collect its attentions and the attribution of a patch.

    Args:
        net: the network; its parameters must not require gradients.
        name: the network's name for the title.
        image: the photo's file.
        view: the part to inspect.
        progress: wraps the attribution's steps, as `tqdm` does.

    Raises:
        FileNotFoundError: no such image.
        UserError: the image cannot be read or is too small, or the view does not fit the network and the photo.
    """
    photo, scale, side = _read(image, net.conv_first.in_channels), net.upscale, view.window
    x, y = window_around(view.patch, photo, side, scale)
    lq = photo[:, :, y : y + side, x : x + side].contiguous()
    with torch.inference_mode():
        output = net(lq)
    height, width = photo.shape[2:]
    if view.patch is None:
        size = min(PATCH_SIZE, *output.shape[2:])
        if size < 2:
            raise UserError(f"{image} is too small to inspect; got {width} x {height} pixels")
        top, left = most_detailed_window(output[0].permute(1, 2, 0).numpy(), size)
        patch = Patch(left, top, size)
    else:
        patch = Patch(view.patch.x - scale * x, view.patch.y - scale * y, view.patch.size)
    found = attentions(net, lq)
    where = f" of {width} x {height} pixels at ({x}, {y})" if lq.shape != photo.shape else " pixels"
    return Inspection(
        title=f"{name}, x{scale}, on {image.name} ({lq.shape[3]} x {lq.shape[2]}{where})",
        lq=lq[0],
        output=output[0],
        scale=scale,
        attentions=found,
        channels=channels_to_show(found.spatial, view.channels),
        patch=patch,
        patch_in_photo=Patch(patch.x + scale * x, patch.y + scale * y, patch.size),
        attribution=attribute(net, lq, patch, view.steps, progress),
    )


def _read(path: Path, channels: int) -> Tensor:
    """Read a photo as the network takes it, (1, channels, h, w) in [0, 1], without alpha."""
    if not path.is_file():
        raise FileNotFoundError(f"no such image: {path}")
    try:
        pixels = torch.from_numpy(read_image(path).copy()).float() / 255
    except (ImageError, OSError) as error:
        raise UserError(str(error)) from error
    pixels = pixels[..., None] if pixels.dim() == 2 else pixels
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]  # (h, w, 1 or 3)
    if channels == 1 and colours.shape[2] == 3:
        colours = (colours @ torch.tensor(LUMA))[..., None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = colours.expand(-1, -1, 3)
    elif channels != colours.shape[2]:
        raise UserError(f"the network takes {channels} channels; {path} has {colours.shape[2]}")
    return colours.permute(2, 0, 1)[None].contiguous()
