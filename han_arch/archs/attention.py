"""HAN's two attention modules: LAM over the layers, CSAM over channels and positions.

Source: Niu et al., "Single Image Super-Resolution via a Holistic Attention Network", ECCV 2020, sections 3.2 and 3.3,
and the authors' released code, whose form is the default where the two differ.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_arch.archs.components import register_component

LAM_FORMS = ("released", "paper", "cosine")


def layer_correlation(feats: list[Tensor]) -> Tensor:
    """Inner products of the layers: `E_ij = <feats_i, feats_j>`, summed over channels and positions.

    At img_range 255 the values reach 1e10 and more, beyond float16, so they are accumulated in float32 at least, under
    autocast too.

    Args:
        feats: n maps (b, c, h, w).

    Returns:
        (b, n, n), float64 for float64 maps, else float32.
    """
    dtype = torch.promote_types(feats[0].dtype, torch.float32)
    with torch.autocast(feats[0].device.type, enabled=False):
        stack = torch.stack([feat.to(dtype) for feat in feats], dim=1).flatten(2)  # (b, n, c*h*w)
        return stack @ stack.transpose(1, 2)  # (b, n, k) @ (b, k, n) -> (b, n, n)


@register_component("layer")
class LAM(nn.Module):
    """Layer attention: every layer's map gains a weighted sum of all layers' maps.

    `out_i = feats_i + alpha * sum_j w_ij feats_j`, with `w_ij = softmax_j(max_k(E_ik) - E_ij)` and E of
    `layer_correlation`; alpha is learned and starts at 0, so that LAM starts as the identity.

    Args:
        form: "released" is the form above, which the authors' code and weights have: dissimilar layers get the weight.
            "paper" (softmax over E) and "cosine" are not there yet.

    Raises:
        ValueError: unknown form.
        NotImplementedError: a form that is not there yet.

    Source: the paper's section 3.2 and [code] `LAM_Module`. Deviation: none in the result; the softmax runs in float32
    at least.
    """

    def __init__(self, form: str = "released") -> None:
        super().__init__()
        if form not in LAM_FORMS:
            raise ValueError(f"lam_form must be one of {', '.join(LAM_FORMS)}; got {form!r}")
        if form != "released":
            raise NotImplementedError(f"lam_form {form!r} is not there yet; use 'released'")
        self.form = form
        self.alpha = nn.Parameter(torch.zeros(1))

    def mixing(self, feats: list[Tensor]) -> Tensor:
        """The matrix M with `out_i = sum_j M_ij feats_j`, that is the identity plus alpha times the attention weights.

        Args:
            feats: n maps (b, c, h, w), newest first.

        Returns:
            (b, n, n), in the dtype of `layer_correlation`.
        """
        energy = layer_correlation(feats)
        weights = torch.softmax(energy.amax(dim=-1, keepdim=True) - energy, dim=-1)
        identity = torch.eye(len(feats), dtype=weights.dtype, device=weights.device)
        return identity + self.alpha.to(weights.dtype) * weights

    def forward(self, feats: list[Tensor]) -> Tensor:
        """Apply LAM, n maps (b, c, h, w), newest first -> (b, n*c, h, w)."""
        stack = torch.stack(feats, dim=1)  # (b, n, c, h, w)
        mixed = self.mixing(feats).to(stack.dtype) @ stack.flatten(2)  # (b, n, n) @ (b, n, c*h*w)
        return mixed.view_as(stack).flatten(1, 2)


@register_component("spatial")
class CSAM(nn.Module):
    """Channel-spatial attention: each value is scaled by a gate computed from its neighbours in channel and position.

    `out = feats + beta * sigmoid(W) * feats`, where W is the 3x3x3 convolution of feats taken as one volume
    (1, c, h, w); beta is learned and starts at 0, so that CSAM starts as the identity.

    Source: the paper's section 3.3 and [code] `CSAM_Module`. Deviation: none in the result. The Conv3d runs as the
    Conv2d it equals, whose c x c weight is banded, because that is many times as fast and works in channels_last; the
    kernel is stored as (3, 3, 3).
    """

    def __init__(self) -> None:
        super().__init__()
        bound = 27**-0.5  # Conv3d's own initialisation at 1 x 3 x 3 x 3 inputs
        self.weight = nn.Parameter(torch.empty(3, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1).uniform_(-bound, bound))
        self.beta = nn.Parameter(torch.zeros(1))

    def banded_weight(self, num_feat: int) -> Tensor:
        """The Conv2d weight `B[o, i] = weight[i - o + 1]` for |i - o| <= 1, else 0; (c, c, 3, 3)."""
        taps = self.weight.unsqueeze(-1).expand(3, 3, 3, num_feat)  # tap, kh, kw, position on the diagonal
        lower, middle, upper = (torch.diag_embed(tap) for tap in taps)  # each (kh, kw, c, c)
        banded = middle
        banded = banded + F.pad(lower, (0, 0, 1, 0))[..., :num_feat, :]  # i = o - 1
        banded = banded + F.pad(upper, (1, 0))[..., :num_feat]  # i = o + 1
        return banded.permute(2, 3, 0, 1)

    def forward(self, feat: Tensor) -> Tensor:
        """Apply CSAM, (b, c, h, w) -> (b, c, h, w)."""
        num_feat = feat.shape[1]
        gate = F.conv2d(feat, self.banded_weight(num_feat), self.bias.expand(num_feat), padding=1)
        return feat + self.beta * torch.sigmoid(gate) * feat
