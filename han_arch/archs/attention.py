"""HAN's two attention modules: LAM over the layers, CSAM over channels and positions.

Source: Niu et al., "Single Image Super-Resolution via a Holistic Attention Network", ECCV 2020, sections 3.2 and 3.3,
and the authors' released code. Where paper and code differ, the default follows the code.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch.archs.components import register_component
from han_arch.archs.fused import layer_correlation

LAM_FORMS = ("released", "paper", "cosine")
# First temperature of "cosine". In the untrained full-size network, the weights then prefer some layers and still pass
# gradients: their entropy is a third of the maximum. At 0.03 it is a hundredth of the maximum, at 1 almost the maximum.
COSINE_TEMPERATURE = 0.1


@register_component("layer")
class LAM(nn.Module):
    """Layer attention: add a weighted sum of all layers' maps to each layer's map.

    `out_i = feats_i + alpha * sum_j w_ij feats_j` for n maps. `form` selects the formula of the weights w_ij, where
    E_ij is the inner product of maps i and j:

        released    softmax_j(max_k(E_ik) - E_ij)                   the authors' code: large for dissimilar layers
        paper       softmax_j(E_ij)                                 the paper: large for similar layers
        cosine      softmax_j(E_ij / (|feats_i| |feats_j|) / t)     ours: large for similar layers, at any image size

    alpha is learned and starts at 0, so an untrained LAM changes nothing. If the form is "released" or "paper", E is so
    large that the softmax picks one layer and passes no gradient. If it is "cosine", the temperature t is learned and
    starts at 0.1. The parameter is `log_temperature`, the logarithm of t, so t stays positive.

    Raises:
        ValueError: the form is unknown.

    Source: section 3.2 of the paper and `LAM_Module` of the authors' code. Deviation: E and the softmax are always
    computed in float32 or float64.
    """

    def __init__(self, form: str = "released") -> None:
        super().__init__()
        if form not in LAM_FORMS:
            raise ValueError(f"lam_form must be one of {', '.join(LAM_FORMS)}; got {form!r}")
        self.form = form
        self.alpha = nn.Parameter(torch.zeros(1))
        if form == "cosine":
            self.log_temperature = nn.Parameter(torch.full((1,), math.log(COSINE_TEMPERATURE)))

    def attention(self, feats: list[Tensor]) -> Tensor:
        """Return the attention weights w of n maps: (b, n, n), float32 or float64. The sum of each row of w is 1."""
        energy = layer_correlation(feats)
        if self.form == "cosine":
            tiny = torch.finfo(energy.dtype).tiny  # a map of zeros gets cosines of 0, not nan
            inverse_norm = energy.diagonal(dim1=1, dim2=2).clamp_min(tiny).rsqrt()  # (b, n)
            cosine = energy * inverse_norm.unsqueeze(1) * inverse_norm.unsqueeze(2)
            logits = cosine * torch.exp(-self.log_temperature.to(energy.dtype))
        elif self.form == "paper":
            logits = energy
        else:
            logits = energy.amax(dim=-1, keepdim=True) - energy
        return torch.softmax(logits, dim=-1)

    def mixing(self, feats: list[Tensor]) -> Tensor:
        """Return the matrix `M = identity + alpha * w` of `out_i = sum_j M_ij feats_j`. M is (b, n, n)."""
        weights = self.attention(feats)
        identity = torch.eye(len(feats), dtype=weights.dtype, device=weights.device)
        return identity + self.alpha.to(weights.dtype) * weights

    def forward(self, feats: list[Tensor]) -> Tensor:
        """Apply LAM to n maps (b, c, h, w), deepest layer first. The result is (b, n*c, h, w)."""
        stack = torch.stack(feats, dim=1)  # (b, n, c, h, w)
        mixed = self.mixing(feats).to(stack.dtype) @ stack.flatten(2)  # (b, n, n) @ (b, n, c*h*w)
        return mixed.view_as(stack).flatten(1, 2)


@register_component("spatial")
class CSAM(nn.Module):
    """Channel-spatial attention: scale each value by a gate that depends on its neighbours in channel and position.

    `out = feats + beta * sigmoid(W) * feats`. W is a 3x3x3 convolution over channels, height and width of feats. beta
    is learned and starts at 0, so an untrained CSAM changes nothing.

    Source: section 3.3 of the paper and `CSAM_Module` of the authors' code. Deviation: a Conv2d with a banded c x c
    weight replaces the Conv3d. The output is the same, but the Conv2d is much faster and works in channels_last. The
    kernel is stored as (3, 3, 3).
    """

    def __init__(self) -> None:
        super().__init__()
        bound = 27**-0.5  # the same initial range as in nn.Conv3d(1, 1, 3)
        self.weight = nn.Parameter(torch.empty(3, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound))
        self.beta = nn.Parameter(torch.zeros(1))

    def banded_weight(self, num_feat: int) -> Tensor:
        """Return the Conv2d weight B: `B[o, i] = weight[i - o + 1]` if |i - o| <= 1, else 0. B is (c, c, 3, 3)."""
        taps = self.weight.unsqueeze(-1).expand(3, 3, 3, num_feat)  # tap, kh, kw, position on the diagonal
        lower, middle, upper = (torch.diag_embed(tap) for tap in taps)  # each (kh, kw, c, c)
        banded = middle + F.pad(lower, (0, 0, 1, 0))[..., :num_feat, :]  # i = o - 1
        banded = banded + F.pad(upper, (1, 0))[..., :num_feat]  # i = o + 1
        return banded.permute(2, 3, 0, 1)

    def forward(self, feat: Tensor) -> Tensor:
        """Apply CSAM to a map (b, c, h, w); return a map of the same shape."""
        num_feat = feat.shape[1]
        gate = torch.sigmoid(F.conv2d(feat, self.banded_weight(num_feat), self.bias.expand(num_feat), padding=1))
        return torch.addcmul(feat, feat, gate * self.beta.to(gate.dtype))
