"""Inspect a network on one photo, and draw the result as one PNG: `basicsr inspect`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.compat import require
from han_arch.errors import UserError
from han_arch.files import clear_refusal, replacing
from han_arch.images.picture import ImageError, most_detailed_window
from han_arch.images.read import read_image
from han_arch.inspection.attentions import Attentions, LayerAttention, attentions, channels_to_show
from han_arch.inspection.attribution import STEPS, Attribution, Patch, attribute, window_around

PATCH_SIZE = 16
ACCENT, FAINT = "#c2410c", "#6b7280"
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_LEAST_SHOWN = 1e-3  # of the strongest attribution
_MOST_NUMBERS = 12  # the matrix shows its numbers up to this many layers


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
    attribution: Attribution  # of the patch
    origin: tuple[int, int]  # left and top edge of the window in the photo

    @property
    def patch_in_photo(self) -> Patch:
        """The patch in the output of the whole photo, as `--patch` takes it."""
        x, y = (self.scale * edge for edge in self.origin)
        return Patch(self.patch.x + x, self.patch.y + y, self.patch.size)


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
    channels = channels_to_show(found.spatial, view.channels)
    attribution = attribute(net, lq, patch, view.steps, progress)
    where = f" of {width} x {height} pixels at ({x}, {y})" if lq.shape != photo.shape else " pixels"
    title = f"{name}, x{scale}, on {image.name} ({lq.shape[3]} x {lq.shape[2]}{where})"
    return Inspection(title, lq[0], output[0], scale, found, channels, patch, attribution, (x, y))


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
        colours = (colours @ torch.tensor(_LUMA))[..., None]
    elif channels == 3 and colours.shape[2] == 1:
        colours = colours.expand(-1, -1, 3)
    elif channels != colours.shape[2]:
        raise UserError(f"the network takes {channels} channels; {path} has {colours.shape[2]}")
    return colours.permute(2, 0, 1)[None].contiguous()


def check_figure_path(path: Path, overwrite: bool) -> None:
    """Refuse, before the work, a figure that `write_figure` could not write.

    Raises:
        UserError: the suffix is not .png, or matplotlib is not installed.
        FileExistsError: the file exists, and overwrite is False.
    """
    if path.suffix != ".png":
        raise UserError(f"-o writes .png files; got {path}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it")
    require("matplotlib", "plots")


def write_figure(inspection: Inspection, path: Path) -> None:
    """Draw an inspection into a PNG file, whole or not at all.

    Raises:
        UserError: the system refused to write.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(15, 14.5), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    figure.suptitle(inspection.title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.15, 0.95, 1.0])
    _draw_layers(top, inspection.attentions.layer)
    _draw_spatial(middle, inspection)
    _draw_attribution(bottom, inspection)
    with clear_refusal(path, "choose another name with -o"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            figure.savefig(file, dpi=100, format="png")


def _draw_layers(part: Any, layer: LayerAttention | str) -> None:
    if isinstance(layer, str):
        _draw_text(part, "Layer attention (LAM)", layer)
        return
    adds = "adds nothing: alpha is 0" if layer.alpha == 0 else f"alpha = {layer.alpha:.3g}"
    _heading(part, f"Layer attention (LAM), {layer.form} form: {adds}")
    matrix, gains = part.subplots(1, 2, width_ratios=[1, 1])
    weights, count = layer.weights.numpy(), len(layer.names)
    shown = matrix.imshow(weights, cmap="magma", vmin=0, vmax=1)
    matrix.set_xticks(range(count), layer.names, rotation=40, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(count), layer.names)
    matrix.set_xlabel("takes from layer j (newest first)")
    matrix.set_ylabel("layer i")
    matrix.set_title("weights w of the mixture; each row sums to 1", fontsize=11)
    if count <= _MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(weights):
            if value >= 0.01:
                colour = "black" if value > 0.6 else "white"
                text = f"{value:.2f}".removeprefix("0")
                matrix.text(column, row, text, ha="center", va="center", color=colour, fontsize=9 if count < 8 else 8)
    part.colorbar(shown, ax=matrix, fraction=0.046, pad=0.02)

    percent = 100 * layer.gain.numpy()
    bars = gains.barh(range(count), percent, color=ACCENT if layer.alpha else FAINT, height=0.65)
    gains.bar_label(bars, [f"{value:.3g} %" for value in percent], padding=4, fontsize=10)
    gains.set_yticks(range(count), layer.names)
    gains.invert_yaxis()
    gains.set_xlim(0, 1.2 * float(percent.max()) if percent.max() > 0 else 1)
    gains.set_xlabel("norm of alpha * mixture, in percent of the layer's own norm")
    note = ": none, since alpha is 0 (the matrix shows the mixture before alpha)" if layer.alpha == 0 else ""
    gains.set_title(f"LAM's addition to each layer{note}", fontsize=11)
    gains.spines[["top", "right"]].set_visible(False)
    gains.margins(y=0.03)


def _draw_spatial(part: Any, inspection: Inspection) -> None:
    spatial = inspection.attentions.spatial
    if isinstance(spatial, str):
        _draw_text(part, "Channel-spatial attention (CSAM)", spatial)
        return
    effect = f"features are multiplied by 1 + beta * gate, beta = {spatial.beta:.3g}"
    if spatial.beta == 0:
        effect = "changes nothing: beta is 0 (the maps are its gates)"
    _heading(part, f"Channel-spatial attention (CSAM): {effect}")
    photo, *panels = part.subplots(1, 1 + len(inspection.channels), squeeze=False)[0]
    _show(photo, inspection.lq, "input")
    grey = inspection.lq.clamp(0, 1).mean(dim=0, keepdim=True)
    gates = spatial.gate[inspection.channels].numpy()
    low, high = _colour_limits(gates)
    for panel, channel, gate in zip(panels, inspection.channels, gates, strict=True):
        _show(panel, grey, f"channel {channel}: {gate.min():.2f} to {gate.max():.2f}")
        shown = panel.imshow(gate, cmap="viridis", vmin=low, vmax=high, alpha=0.65)
    part.colorbar(shown, ax=panels, fraction=0.03, pad=0.01, label="gate, over the photo")


def _draw_attribution(part: Any, inspection: Inspection) -> None:
    patch, attribution, scale = inspection.patch, inspection.attribution, inspection.scale
    _heading(
        part,
        "Local attribution: the input pixels that the output patch depends on; diffusion index "
        f"{attribution.diffusion:.1f} (0: one pixel, 100: all alike)",
    )
    from matplotlib.colors import LogNorm

    photo, heat, zoom = part.subplots(1, 3, width_ratios=[1, 1, 1])
    whole, side = inspection.patch_in_photo, f"{patch.size} x {patch.size}"
    _show(
        photo, inspection.lq, f"input; output patch at ({whole.x}, {whole.y}), {side}, is {patch.size / scale:g} here"
    )
    _show(heat, 0.3 + 0.7 * inspection.lq.clamp(0, 1).mean(dim=0, keepdim=True), "attribution, logarithmic")
    # A few pixels hold nearly all, so the colours are logarithmic; values below a thousandth stay transparent.
    strength = attribution.map.numpy()
    shown = heat.imshow(
        strength,
        cmap="YlOrRd",
        norm=LogNorm(_LEAST_SHOWN, 1),
        alpha=np.clip(1.15 + 0.3 * np.log10(np.maximum(strength, 1e-9)), 0, 1),
    )
    part.colorbar(shown, ax=heat, fraction=0.046, pad=0.02, label="of the strongest pixel")
    for panel in (photo, heat):
        _frame(panel, patch, scale)
    margin = 2 * patch.size
    height, width = inspection.output.shape[1:]
    left, upper = max(0, patch.x - margin), max(0, patch.y - margin)
    right, lower = min(width, patch.x + patch.size + margin), min(height, patch.y + patch.size + margin)
    part_of_output = inspection.output[:, upper:lower, left:right]
    _show(zoom, part_of_output, "output around the patch", extent=(left, right, lower, upper))
    _frame(zoom, patch, 1, offset=0)


def _frame(panel: Any, patch: Patch, scale: int, offset: float = -0.5) -> None:
    from matplotlib.patches import Rectangle

    side = patch.size / scale
    corner = (patch.x / scale + offset, patch.y / scale + offset)
    panel.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=3.2))
    panel.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=ACCENT, linewidth=1.6))


def _heading(part: Any, text: str) -> None:
    part.suptitle(text, fontsize=13, x=0.01, ha="left", color="#111827")


def _draw_text(part: Any, heading: str, text: str) -> None:
    _heading(part, heading)
    panel = part.subplots()
    panel.set_axis_off()
    panel.text(0.5, 0.5, text, ha="center", va="center", fontsize=14, color=FAINT)


def _show(panel: Any, image: Tensor, title: str, extent: tuple[int, int, int, int] | None = None) -> None:
    """Draw an image, (channels, h, w) in [0, 1], without axes; other than 3 channels are drawn as their mean."""
    values = image.clamp(0, 1).numpy()
    values = values.transpose(1, 2, 0) if len(values) == 3 else values.mean(axis=0)
    panel.imshow(values, cmap="gray", vmin=0, vmax=1, extent=extent)
    panel.set_title(title, fontsize=11)
    panel.set_axis_off()


def _colour_limits(gates: np.ndarray) -> tuple[float, float]:
    """Return the limits of the central 98 % of the values, so that a few extremes do not wash out the rest."""
    low, high = np.quantile(gates, [0.01, 0.99])
    if high - low > 1e-6:
        return float(low), float(high)
    return float(gates.min()) - 1e-3, float(gates.max()) + 1e-3
