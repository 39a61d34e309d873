"""Inspect a network on one photo: collect its attentions and the local attribution map of a patch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
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
    """What to inspect: a patch of the output, channels of CSAM, and the size of the window."""

    patch: Patch | None = None  # patch of the complete photo's output; None: the patch with most detail
    channels: list[int] | None = None  # indices of the CSAM channels to draw; None: those with the most varying gates
    window: int = 96  # largest side of the inspected part of the photo, in photo pixels
    steps: int = STEPS  # number of steps along the attribution's path

    def __post_init__(self) -> None:
        if self.steps < 1 or self.window < 16:
            raise UserError(
                f"--steps must be at least 1, and --window at least 16; got --steps {self.steps} --window {self.window}"
            )


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection on one window of a photo. Images are (channels, h, w)."""

    title: str  # title of the figure, with the names of network and photo
    lq: Tensor  # the window of the photo in [0, 1], which is the input of the network
    output: Tensor  # output of the network for the window, not clamped
    scale: int  # scale of the network
    attentions: Attentions
    channels: list[int]  # indices of the CSAM channels to draw
    patch: Patch  # the patch, in pixels of `output`
    patch_in_photo: Patch  # the same patch in the output of the complete photo, as in `--patch`
    attribution: Attribution  # attribution map of the patch


def inspect_network(
    net: HAN, name: str, image: Path, view: View, progress: Callable[[range], Iterable[int]] = iter
) -> Inspection:
    """Run a network on a photo; collect the network's attentions and the attribution map of a patch.

    Args:
        net: the network; its parameters must not require gradients.
        name: name of the network for the title.
        image: path of the photo.
        progress: function that wraps the range of attribution steps, such as `tqdm`.

    Raises:
        FileNotFoundError: the photo does not exist.
        UserError: the photo, the patch of `view` or a channel of `view` cannot be used.
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
            raise UserError(f"{image} is too small to inspect: {width} x {height} pixels")
        top, left = most_detailed_window(output[0].permute(1, 2, 0).numpy(), size)
        patch = Patch(left, top, size)
    else:
        patch = Patch(view.patch.x - scale * x, view.patch.y - scale * y, view.patch.size)
    found = attentions(net, lq)
    where = f" window at ({x}, {y}) of {width} x {height} pixels" if lq.shape != photo.shape else " pixels"
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
    """Read a photo as the input of a network, (1, channels, h, w) in [0, 1], without its alpha channel."""
    if not path.is_file():
        raise FileNotFoundError(f"image {path} does not exist")
    try:
        pixels = torch.from_numpy(np.atleast_3d(read_image(path)).copy()).float() / 255
    except (ImageError, OSError) as error:
        raise UserError(str(error)) from error
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]  # (h, w, 1 or 3)
    if channels == 1 and colours.shape[2] == 3:
        colours = (colours @ torch.tensor(LUMA))[..., None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = colours.expand(-1, -1, 3)
    elif channels != colours.shape[2]:
        raise UserError(f"{path} has {colours.shape[2]} channels, but this network needs {channels}")
    return colours.permute(2, 0, 1)[None].contiguous()
