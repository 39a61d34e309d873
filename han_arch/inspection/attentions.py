"""Compute the values of HAN's two attentions, LAM and CSAM, for one image."""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch.archs.attention import CSAM, LAM
from han_arch.archs.fused import layer_correlation
from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError

CHANNELS_SHOWN = 4  # number of CSAM channels to draw, unless the user selects channels
MOST_CHANNELS = 8  # largest number of channels that the user may select


@dataclass(frozen=True)
class LayerAttention:
    """The layer attention (LAM) over n layers, for one image."""

    form: str  # "released", "paper" or "cosine"
    alpha: float  # LAM's learned scale
    names: tuple[str, ...]  # names of the n layers, deepest layer first
    weights: Tensor  # (n, n); row i has the weights of the layers in the mixture for layer i; its sum is 1
    gain: Tensor  # (n,); `|alpha * mixture_i| / |feats_i|`: norm of LAM's addition divided by the layer's norm


@dataclass(frozen=True)
class SpatialAttention:
    """The channel-spatial attention (CSAM) for one image. CSAM multiplies each feature by 1 + beta * gate."""

    beta: float  # CSAM's learned scale
    gate: Tensor  # the gates: (c, h, w) in 0..1


@dataclass(frozen=True)
class Attentions:
    """The attentions LAM (`layer`) and CSAM (`spatial`). The field of a missing attention is a text that says so."""

    layer: LayerAttention | str
    spatial: SpatialAttention | str


def attentions(net: HAN, lq: Tensor) -> Attentions:
    """Run a network on one image and return the network's attentions. lq is (1, channels, h, w) in [0, 1]."""
    group_csam = dict(net.group_csam.items())
    groups = [group_csam.get(str(number), group) for number, group in enumerate(net.body)]
    feats: list[Tensor] = []  # the input feature maps of LAM, deepest layer first
    with torch.inference_mode(), ExitStack() as hooks:
        for layer in (*groups, net.conv_after_body):
            hooks.enter_context(layer.register_forward_hook(lambda module, inputs, output: feats.insert(0, output)))
        net.features(lq)
        return Attentions(_layer_attention(net.lam, feats), _spatial_attention(net.csam, feats[0]))


def channels_to_show(spatial: SpatialAttention | str, wanted: list[int] | None) -> list[int]:
    """Return the indices of the CSAM channels to draw. The list is empty if the network does not have a CSAM.

    `wanted` has the indices that the user selected. None: choose CHANNELS_SHOWN channels; their gates vary most.

    Raises:
        UserError: `wanted` has more than MOST_CHANNELS channels, or a channel that does not exist.
    """
    if isinstance(spatial, str):
        return []
    if wanted is None:
        spread = spatial.gate.flatten(1).std(dim=1, unbiased=False)
        return spread.argsort(descending=True, stable=True)[:CHANNELS_SHOWN].tolist()
    count = len(spatial.gate)
    if len(wanted) > MOST_CHANNELS or not all(0 <= channel < count for channel in wanted):
        raise UserError(f"--channels takes at most {MOST_CHANNELS} indices from 0 to {count - 1}; got {wanted}")
    return wanted


def _layer_attention(lam: nn.Module | None, feats: list[Tensor]) -> LayerAttention | str:
    if not isinstance(lam, LAM):
        return f"this network has no LAM (layer attention: {_name(lam)})"
    weights = lam.attention(feats)[0].double()  # (n, n)
    energy = layer_correlation(feats)[0].double()
    alpha = float(lam.alpha)
    # |sum_j w_ij f_j|^2 = sum_jk w_ij E_jk w_ik, so the mixtures need not be computed.
    mixture = torch.einsum("ij,jk,ik->i", weights, energy, weights).clamp_min(0).sqrt()
    own = energy.diagonal().sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    names = ("conv_after_body", *(f"group {number}" for number in range(len(feats) - 1, 0, -1)))
    return LayerAttention(lam.form, alpha, names, weights, abs(alpha) * mixture / own)


def _spatial_attention(csam: nn.Module | None, feat: Tensor) -> SpatialAttention | str:
    if not isinstance(csam, CSAM):
        return f"this network has no CSAM (spatial attention: {_name(csam)})"
    channels = feat.shape[1]
    gate = torch.sigmoid(F.conv2d(feat, csam.banded_weight(channels), csam.bias.expand(channels), padding=1))
    return SpatialAttention(float(csam.beta), gate[0])


def _name(component: nn.Module | None) -> str:
    return "none" if component is None else type(component).__name__
