"""Read both of HAN's attentions from one run of the network on one image."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch.archs.attention import CSAM, LAM
from han_arch.archs.fused import layer_correlation
from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError

CHANNELS_SHOWN = 4  # of CSAM, unless the user names some
MOST_CHANNELS = 8


@dataclass(frozen=True)
class LayerAttention:
    """LAM on one image, with n layers."""

    form: str  # "released", "paper" or "cosine"
    alpha: float  # LAM's learned scale
    names: tuple[str, ...]  # of the layers in LAM's order, newest first
    weights: Tensor  # (n, n); row i mixes the layers into LAM's addition to layer i, and sums to 1
    gain: Tensor  # (n,), `|alpha * mixture_i| / |feats_i|`: the norm of the addition relative to the layer's own


@dataclass(frozen=True)
class SpatialAttention:
    """CSAM on one image: `gate` is sigmoid(W), (c, h, w) in 0..1; CSAM multiplies each feature by 1 + beta * gate."""

    beta: float
    gate: Tensor


@dataclass(frozen=True)
class Attentions:
    """Both attentions; where the network lacks one, a line of text that says so."""

    layer: LayerAttention | str
    spatial: SpatialAttention | str


def attentions(net: HAN, lq: Tensor) -> Attentions:
    """Run net on one image, (1, channels, h, w) in [0, 1], and return its attentions."""
    with torch.inference_mode(), _recorded(net) as feats:
        net.features(lq)
    newest_first = feats[::-1]
    return Attentions(_layer_attention(net.lam, newest_first), _spatial_attention(net.csam, newest_first[0]))


def channels_to_show(spatial: SpatialAttention | str, wanted: list[int] | None) -> list[int]:
    """Return the wanted channels of CSAM's gate, or those that vary most, the strongest first; [] without CSAM.

    Raises:
        UserError: too many channels, or one that the gate lacks.
    """
    if isinstance(spatial, str):
        return []
    if wanted is None:
        spread = spatial.gate.flatten(1).std(dim=1, unbiased=False)
        return spread.argsort(descending=True, stable=True)[:CHANNELS_SHOWN].tolist()
    count = len(spatial.gate)
    if len(wanted) > MOST_CHANNELS or not all(0 <= channel < count for channel in wanted):
        raise UserError(f"--channels takes at most {MOST_CHANNELS} numbers of 0 to {count - 1}; got {wanted}")
    return wanted


@contextmanager
def _recorded(net: HAN) -> Iterator[list[Tensor]]:
    """Yield a list that receives the maps that enter LAM, oldest first, while the network runs."""
    group_csam = dict(net.group_csam.items())
    groups = [group_csam.get(str(number), group) for number, group in enumerate(net.body)]
    feats: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, output: feats.append(output))
        for layer in (*groups, net.conv_after_body)
    ]
    try:
        yield feats
    finally:
        for handle in handles:
            handle.remove()


def _layer_attention(lam: nn.Module | None, feats: list[Tensor]) -> LayerAttention | str:
    if not isinstance(lam, LAM):
        return f"this network has no LAM (its layer attention: {_name(lam)})"
    weights = lam.attention(feats)[0].double()  # (n, n)
    energy = layer_correlation(feats)[0].double()
    alpha = float(lam.alpha.detach())
    # |sum_j w_ij f_j|^2 = sum_jk w_ij E_jk w_ik, so the mixtures themselves are not needed.
    mixture = torch.einsum("ij,jk,ik->i", weights, energy, weights).clamp_min(0).sqrt()
    own = energy.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    names = ("conv_after_body", *(f"group {number}" for number in range(len(feats) - 1, 0, -1)))
    return LayerAttention(lam.form, alpha, names, weights, abs(alpha) * mixture / own)


def _spatial_attention(csam: nn.Module | None, feat: Tensor) -> SpatialAttention | str:
    if not isinstance(csam, CSAM):
        return f"this network has no CSAM (its spatial attention: {_name(csam)})"
    channels = feat.shape[1]
    with torch.inference_mode():
        gate = torch.sigmoid(F.conv2d(feat, csam.banded_weight(channels), csam.bias.expand(channels), padding=1))
    return SpatialAttention(float(csam.beta.detach()), gate[0])


def _name(component: nn.Module | None) -> str:
    return "none" if component is None else type(component).__name__
