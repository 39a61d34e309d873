"""The picture of `basicsr inspect`, one PNG: LAM's matrix and gain, CSAM's maps, the local attribution map."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from han_arch.inspection.attentions import Attentions, LayerAttention
from han_arch.inspection.attribution import Attribution, Patch

ACCENT, FAINT = "#c2410c", "#6b7280"
_LEAST_SHOWN = 1e-3  # of the strongest attribution
_MOST_NUMBERS = 12  # layers up to which the matrix shows its numbers


@dataclass(frozen=True)
class Findings:
    """All that is drawn.

    Images are (channels, h, w) in [0, 1]: `lq` the window of the photo that is looked at, `output` the network's result
    for it. `origin` is the window's left and top edge in the photo; `patch` counts from the window's output.
    """

    title: str
    lq: Tensor
    output: Tensor
    scale: int
    attentions: Attentions
    channels: list[int]
    patch: Patch
    attribution: Attribution
    origin: tuple[int, int]

    @property
    def patch_in_photo(self) -> Patch:
        """The patch in the whole photo's output, as `--patch` takes it."""
        x, y = (self.scale * edge for edge in self.origin)
        return Patch(self.patch.x + x, self.patch.y + y, self.patch.size)


def draw(findings: Findings, path: Path) -> None:
    """Draw into a PNG file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(15, 14.5), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    figure.suptitle(findings.title, fontsize=15, fontweight="bold", x=0.01, ha="left")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1.15, 0.95, 1.0])
    _draw_layers(top, findings.attentions.layer)
    _draw_spatial(middle, findings)
    _draw_attribution(bottom, findings)
    figure.savefig(path, dpi=100, format="png")


def _draw_layers(part: Any, layer: LayerAttention | str) -> None:
    if isinstance(layer, str):
        _say(part, "Layer attention (LAM)", layer)
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
    note = ": nothing, alpha is 0 (the matrix is what it would mix)" if layer.alpha == 0 else ""
    gains.set_title(f"what LAM adds to each layer{note}", fontsize=11)
    gains.spines[["top", "right"]].set_visible(False)
    gains.margins(y=0.03)


def _draw_spatial(part: Any, findings: Findings) -> None:
    spatial = findings.attentions.spatial
    if isinstance(spatial, str):
        _say(part, "Channel-spatial attention (CSAM)", spatial)
        return
    effect = (
        "changes nothing: beta is 0 (the maps are its gates)"
        if spatial.beta == 0
        else f"features are multiplied by 1 + beta * gate, beta = {spatial.beta:.3g}"
    )
    _heading(part, f"Channel-spatial attention (CSAM): {effect}")
    photo, *panels = part.subplots(1, 1 + len(findings.channels), squeeze=False)[0]
    photo.imshow(_displayed(findings.lq), cmap="gray", vmin=0, vmax=1)
    photo.set_title("input", fontsize=11)
    photo.set_axis_off()
    grey = _luma(findings.lq)
    gates = spatial.gate[findings.channels].numpy()
    low, high = _spread(gates, float(gates.min()), float(gates.max()))
    for panel, channel, gate in zip(panels, findings.channels, gates, strict=True):
        panel.imshow(grey, cmap="gray", vmin=0, vmax=1)
        shown = panel.imshow(gate, cmap="viridis", vmin=low, vmax=high, alpha=0.65)
        panel.set_title(f"channel {channel}: {gate.min():.2f} to {gate.max():.2f}", fontsize=11)
        panel.set_axis_off()
    part.colorbar(shown, ax=panels, fraction=0.03, pad=0.01, label="gate, over the photo")


def _draw_attribution(part: Any, findings: Findings) -> None:
    patch, attribution, scale = findings.patch, findings.attribution, findings.scale
    _heading(
        part,
        f"Local attribution: which input pixels the output patch depends on; diffusion index "
        f"{attribution.diffusion:.1f} (0: one pixel, 100: all alike)",
    )
    from matplotlib.colors import LogNorm

    photo, heat, zoom = part.subplots(1, 3, width_ratios=[1, 1, 1])
    photo.imshow(_displayed(findings.lq), cmap="gray", vmin=0, vmax=1)
    whole = findings.patch_in_photo
    photo.set_title(
        f"input; output patch at ({whole.x}, {whole.y}), {patch.size} x {patch.size}, is {patch.size / scale:g} here",
        fontsize=11,
    )
    heat.imshow(0.3 + 0.7 * _luma(findings.lq), cmap="gray", vmin=0, vmax=1)
    # A few pixels hold nearly all, so the colours are logarithmic; what is below a thousandth stays clear.
    strength = attribution.map.numpy()
    shown = heat.imshow(
        strength,
        cmap="YlOrRd",
        norm=LogNorm(_LEAST_SHOWN, 1),
        alpha=np.clip(1.15 + 0.3 * np.log10(np.maximum(strength, 1e-9)), 0, 1),
    )
    part.colorbar(shown, ax=heat, fraction=0.046, pad=0.02, label="of the strongest pixel")
    heat.set_title("attribution, logarithmic", fontsize=11)
    for panel in (photo, heat):
        _frame(panel, patch, scale)
        panel.set_axis_off()
    margin = 2 * patch.size
    height, width = findings.output.shape[1:]
    left, upper = max(0, patch.x - margin), max(0, patch.y - margin)
    right, lower = min(width, patch.x + patch.size + margin), min(height, patch.y + patch.size + margin)
    zoom.imshow(
        _displayed(findings.output[:, upper:lower, left:right]),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(left, right, lower, upper),
    )
    _frame(zoom, patch, 1, offset=0)
    zoom.set_title("output around the patch", fontsize=11)
    zoom.set_axis_off()


def _frame(panel: Any, patch: Patch, scale: int, offset: float = -0.5) -> None:
    from matplotlib.patches import Rectangle

    side = patch.size / scale
    corner = (patch.x / scale + offset, patch.y / scale + offset)
    panel.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=3.2))
    panel.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=ACCENT, linewidth=1.6))


def _heading(part: Any, text: str) -> None:
    part.suptitle(text, fontsize=13, x=0.01, ha="left", color="#111827")


def _say(part: Any, heading: str, text: str) -> None:
    _heading(part, heading)
    panel = part.subplots()
    panel.set_axis_off()
    panel.text(0.5, 0.5, text, ha="center", va="center", fontsize=14, color=FAINT)


def _luma(image: Tensor) -> np.ndarray:
    return image.clamp(0, 1).mean(dim=0).numpy()


def _displayed(image: Tensor) -> np.ndarray:
    """(h, w, 3), or (h, w) for a grey image."""
    values = image.clamp(0, 1).numpy()
    return values.transpose(1, 2, 0) if len(values) == 3 else values.mean(axis=0)


def _spread(gates: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Limits of the colours: the central 98 % of the values, so that a few extremes do not wash out the rest."""
    inner_low, inner_high = np.quantile(gates, [0.01, 0.99])
    return (float(inner_low), float(inner_high)) if inner_high - inner_low > 1e-6 else (low - 1e-3, high + 1e-3)
