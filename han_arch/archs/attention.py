"""HAN's two attention modules: LAM over the layers, CSAM over channels and positions.

Source: Niu et al., "Single Image Super-Resolution via a Holistic Attention Network", ECCV 2020, sections 3.2 and 3.3,
and the authors' released code. Where the two differ, the code is the default.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch.archs.components import register_component
from han_arch.archs.fused import layer_correlation

LAM_FORMS = ("released", "paper", "cosine")
# With this value the weights of the untrained full-size network choose among layers and still pass gradients: they have
# a third of the largest possible entropy. At 0.03 they have a hundredth, at 1 nearly all.
COSINE_TEMPERATURE = 0.1


@register_component("layer")
class LAM(nn.Module):
    """Layer attention: add to every layer's map a weighted sum of all layers' maps.

    `out_i = feats_i + alpha * sum_j w_ij feats_j`, with E from `layer_correlation` and w_ij by form:

        released    softmax_j(max_k(E_ik) - E_ij)                   the authors' code: dissimilar layers get the weight
        paper       softmax_j(E_ij)                                 the paper: similar layers get the weight
        cosine      softmax_j(E_ij / (|feats_i| |feats_j|) / t)     ours: as the paper, independent of the image's size

    alpha is learned and starts at 0, so LAM starts as the identity. E is so large that the softmax of the first two
    forms picks one layer and passes no gradient. The temperature t of the third is learned and starts at 0.1. It is
    stored as its logarithm, `log_temperature`, and so stays positive.

    Args:
        form: "released", "paper" or "cosine".

    Raises:
        ValueError: unknown form.

    Source: the paper's section 3.2 and `LAM_Module` of the authors' code. Deviation: none in the results of the first
    two forms; E and the softmax are computed in float32 at least.
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
        """Compute the weights w for n maps (b, c, h, w): (b, n, n), float32 at least; each row sums to 1."""
        energy = layer_correlation(feats)
        if self.form == "cosine":
            # The cosines of a map of zeros are 0.
            tiny = torch.finfo(energy.dtype).tiny
            inverse_norm = energy.diagonal(dim1=1, dim2=2).clamp_min(tiny).rsqrt()  # (b, n)
            cosine = energy * inverse_norm.unsqueeze(1) * inverse_norm.unsqueeze(2)
            logits = cosine * torch.exp(-self.log_temperature.to(energy.dtype))
        elif self.form == "paper":
            logits = energy
        else:
            logits = energy.amax(dim=-1, keepdim=True) - energy
        return torch.softmax(logits, dim=-1)

    def mixing(self, feats: list[Tensor]) -> Tensor:
        """Compute M with `out_i = sum_j M_ij feats_j`: the identity plus alpha times the attention weights.

        Args:
            feats: n maps (b, c, h, w), newest first.

        Returns:
            (b, n, n), in the dtype of `layer_correlation`.
        """
        weights = self.attention(feats)
        identity = torch.eye(len(feats), dtype=weights.dtype, device=weights.device)
        return identity + self.alpha.to(weights.dtype) * weights

    def forward(self, feats: list[Tensor]) -> Tensor:
        """Apply LAM, n maps (b, c, h, w), newest first -> (b, n*c, h, w)."""
        stack = torch.stack(feats, dim=1)  # (b, n, c, h, w)
        mixed = self.mixing(feats).to(stack.dtype) @ stack.flatten(2)  # (b, n, n) @ (b, n, c*h*w)
        return mixed.view_as(stack).flatten(1, 2)


@register_component("spatial")
class CSAM(nn.Module):
    """Channel-spatial attention: scale each value by a gate from its neighbours in channel and position.

    `out = feats + beta * sigmoid(W) * feats`, where W is the 3x3x3 convolution of the volume (1, c, h, w). beta is
    learned and starts at 0, so CSAM starts as the identity.

    Source: the paper's section 3.3 and `CSAM_Module` of the authors' code. Deviation: none in the result. The Conv3d
    runs as a Conv2d with a banded c x c weight, which is many times as fast and works in channels_last. The kernel is
    stored as (3, 3, 3).
    """

    def __init__(self) -> None:
        super().__init__()
        bound = 27**-0.5  # as Conv3d with 1 x 3 x 3 x 3 inputs initialises itself
        self.weight = nn.Parameter(torch.empty(3, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound))
        self.beta = nn.Parameter(torch.zeros(1))

    def banded_weight(self, num_feat: int) -> Tensor:
        """Build the Conv2d weight `B[o, i] = weight[i - o + 1]` for |i - o| <= 1, else 0; (c, c, 3, 3)."""
        taps = self.weight.unsqueeze(-1).expand(3, 3, 3, num_feat)  # tap, kh, kw, place on the diagonal
        lower, middle, upper = (torch.diag_embed(tap) for tap in taps)  # each (kh, kw, c, c)
        banded = middle
        banded = banded + F.pad(lower, (0, 0, 1, 0))[..., :num_feat, :]  # i = o - 1
        banded = banded + F.pad(upper, (1, 0))[..., :num_feat]  # i = o + 1
        return banded.permute(2, 3, 0, 1)

    def forward(self, feat: Tensor) -> Tensor:
        """Apply CSAM, (b, c, h, w) -> (b, c, h, w)."""
        num_feat = feat.shape[1]
        gate = torch.sigmoid(F.conv2d(feat, self.banded_weight(num_feat), self.bias.expand(num_feat), padding=1))
        return torch.addcmul(feat, feat, gate * self.beta.to(gate.dtype))
