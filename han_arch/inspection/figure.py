"""Draw the result of an inspection into one PNG file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from han_arch.compat import require
from han_arch.errors import UserError, printable
from han_arch.files import check_writable, clear_refusal, replacing
from han_arch.inspection.attentions import LayerAttention
from han_arch.inspection.attribution import Patch
from han_arch.inspection.inspection import Inspection

ACCENT, FAINT = "#c2410c", "#6b7280"
_LEAST_SHOWN = 1e-3  # smallest attribution with a separate colour, relative to the largest
_MOST_NUMBERS = 12  # with more layers, the matrix is drawn without numbers


def check_figure_path(path: Path, overwrite: bool) -> None:
    """Check the path of a figure before the inspection starts.

    Raises:
        UserError: the suffix is not .png, matplotlib is not installed, or the file cannot be written.
        FileExistsError: the file exists, and overwrite is False.
    """
    if path.suffix != ".png":
        raise UserError(f"-o must be a .png file; got {path}")
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} already exists; pass --overwrite to replace it")
    require("matplotlib", "plots")
    check_writable([path])


def write_figure(inspection: Inspection, path: Path, *, overwrite: bool = True) -> None:
    """Draw an inspection into a PNG file, completely or not at all.

    Raises:
        UserError: the file cannot be written, or it exists and overwrite is False.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(15, 14.5), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    title = printable(inspection.title).replace("$", r"\$")  # between two "$", matplotlib reads a formula
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.15, 0.95, 1.0])
    _draw_layers(top, inspection.attentions.layer)
    _draw_spatial(middle, inspection)
    _draw_attribution(bottom, inspection)
    with clear_refusal(path, "choose another name with -o"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, overwrite=overwrite) as file:
            figure.savefig(file, dpi=100, format="png")


def _draw_layers(part: Any, layer: LayerAttention | str) -> None:
    if isinstance(layer, str):
        _draw_text(part, "Layer attention (LAM)", layer)
        return
    adds = "it adds nothing because alpha is 0" if layer.alpha == 0 else f"alpha = {layer.alpha:.3g}"
    _heading(part, f"Layer attention (LAM), {layer.form} form: {adds}")
    matrix, gains = part.subplots(1, 2)
    weights, count = layer.weights.numpy(), len(layer.names)
    shown = matrix.imshow(weights, cmap="magma", vmin=0, vmax=1)
    matrix.set_xticks(range(count), layer.names, rotation=40, ha="right", rotation_mode="anchor")
    matrix.set_yticks(range(count), layer.names)
    matrix.set(xlabel="layer j in the mixture (deepest layer first)", ylabel="layer i (the mixture is added to it)")
    matrix.set_title("weight of layer j in the mixture for layer i (each row sums to 1)", fontsize=11)
    for (row, column), value in np.ndenumerate(weights):
        if count <= _MOST_NUMBERS and value >= 0.01:
            colour, size = "black" if value > 0.6 else "white", 9 if count < 8 else 8
            text = f"{value:.2f}".removeprefix("0")
            matrix.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)
    part.colorbar(shown, ax=matrix, fraction=0.046, pad=0.02)

    percent = 100 * layer.gain.numpy()
    bars = gains.barh(range(count), percent, color=ACCENT if layer.alpha else FAINT, height=0.65)
    gains.bar_label(bars, [f"{value:.3g} %" for value in percent], padding=4, fontsize=10)
    gains.set_yticks(range(count), layer.names)
    gains.invert_yaxis()
    gains.set_xlim(0, 1.2 * float(percent.max()) if percent.max() > 0 else 1)
    gains.set_xlabel("norm of alpha * mixture, in percent of the layer's norm")
    note = ": zero, because alpha is 0 (the matrix does not include alpha)" if layer.alpha == 0 else ""
    gains.set_title(f"LAM's addition to each layer{note}", fontsize=11)
    gains.spines[["top", "right"]].set_visible(False)
    gains.margins(y=0.03)


def _draw_spatial(part: Any, inspection: Inspection) -> None:
    spatial = inspection.attentions.spatial
    if isinstance(spatial, str):
        _draw_text(part, "Channel-spatial attention (CSAM)", spatial)
        return
    effect = f"it multiplies features by 1 + beta * gate, beta = {spatial.beta:.3g}"
    if spatial.beta == 0:
        effect = "it changes nothing because beta is 0 (the panels show its gates)"
    _heading(part, f"Channel-spatial attention (CSAM): {effect}")
    photo, *panels = part.subplots(1, 1 + len(inspection.channels), squeeze=False)[0]
    _show(photo, inspection.lq, "input")
    grey = inspection.lq.clamp(0, 1).mean(dim=0, keepdim=True)
    gates = spatial.gate[inspection.channels].numpy()
    low, high = np.quantile(gates, [0.01, 0.99])  # a few extreme values would hide the differences of the others
    if high - low <= 1e-6:
        low, high = gates.min() - 1e-3, gates.max() + 1e-3
    for panel, channel, gate in zip(panels, inspection.channels, gates, strict=True):
        _show(panel, grey, f"gate of channel {channel}: {gate.min():.2f} to {gate.max():.2f}")
        shown = panel.imshow(gate, cmap="viridis", vmin=low, vmax=high, alpha=0.65)
    part.colorbar(shown, ax=panels, fraction=0.03, pad=0.01, label="value of the gate")


def _draw_attribution(part: Any, inspection: Inspection) -> None:
    from matplotlib.colors import LogNorm

    patch, attribution, scale = inspection.patch, inspection.attribution, inspection.scale
    index = f"diffusion index {attribution.diffusion:.1f} (0: one pixel, 100: all pixels equally)"
    _heading(part, f"Local attribution: the input pixels that the output patch depends on; {index}")
    photo, heat, zoom = part.subplots(1, 3)
    whole, size = inspection.patch_in_photo, patch.size
    _show(photo, inspection.lq, f"input; the frame is the {size} x {size} output patch at ({whole.x}, {whole.y})")
    _show(heat, 0.3 + 0.7 * inspection.lq.clamp(0, 1).mean(dim=0, keepdim=True), "attribution, logarithmic colours")
    # A few pixels have nearly all of the attribution, so the colours are logarithmic. Small values are transparent.
    strength = attribution.map.numpy()
    opacity = np.clip(1.15 + 0.3 * np.log10(np.maximum(strength, 1e-9)), 0, 1)
    shown = heat.imshow(strength, cmap="YlOrRd", norm=LogNorm(_LEAST_SHOWN, 1), alpha=opacity)
    part.colorbar(shown, ax=heat, fraction=0.046, pad=0.02, label="attribution relative to the strongest pixel")
    for panel in (photo, heat):
        _frame(panel, patch, scale)
    height, width = inspection.output.shape[1:]
    left, upper = max(0, patch.x - 2 * size), max(0, patch.y - 2 * size)
    right, lower = min(width, patch.x + 3 * size), min(height, patch.y + 3 * size)
    around = inspection.output[:, upper:lower, left:right]
    _show(zoom, around, "output around the patch", extent=(left, right, lower, upper))
    _frame(zoom, patch, 1, offset=0)


def _frame(panel: Any, patch: Patch, scale: int, offset: float = -0.5) -> None:
    from matplotlib.patches import Rectangle

    side = patch.size / scale
    corner = (patch.x / scale + offset, patch.y / scale + offset)
    for colour, width in (("white", 3.2), (ACCENT, 1.6)):
        panel.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=width))


def _heading(part: Any, text: str) -> None:
    part.suptitle(text, fontsize=13, x=0.01, ha="left", color="#111827")


def _draw_text(part: Any, heading: str, text: str) -> None:
    _heading(part, heading)
    panel = part.subplots()
    panel.set_axis_off()
    panel.text(0.5, 0.5, text, ha="center", va="center", fontsize=14, color=FAINT)


def _show(panel: Any, image: Tensor, title: str, extent: tuple[int, int, int, int] | None = None) -> None:
    """Draw an image without axes. If it does not have 3 channels, draw the mean of its channels in grey."""
    values = image.clamp(0, 1).numpy()
    values = values.transpose(1, 2, 0) if len(values) == 3 else values.mean(axis=0)
    panel.imshow(values, cmap="gray", vmin=0, vmax=1, extent=extent)
    panel.set_title(title, fontsize=11)
    panel.set_axis_off()
