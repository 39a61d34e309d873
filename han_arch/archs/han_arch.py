"""The network HAN: RCAN's backbone, layer attention over its groups, channel-spatial attention at its end."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import han_arch.archs.fused as fused
from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.blocks import ResidualGroup, Upsample, conv3x3
from han_arch.archs.components import build_component

DIV2K_RGB_MEAN = (0.4488, 0.4371, 0.4040)
SCALES = (2, 3, 4, 8)
FUSIONS = ("conv", "sum")


class HAN(nn.Module):
    """Holistic Attention Network. Input: (b, num_in_ch, h, w) in [0, 1]. Output: (b, num_out_ch, upscale*h, upscale*w).

    With shallow = conv_first(lq) (the paper's F_0), feats = [conv_after_body, group N, ..., group 1] and n = N + 1:

        features = conv_fuse([CSAM(feats_0), conv_lam(LAM(feats))]) + shallow        (fusion "conv")
        features = CSAM(feats_0) + conv_lam(LAM(feats)) + shallow                    (fusion "sum")
        out = conv_last(upsample(features))

    The paper's alpha and beta are the parameters `lam.alpha` and `csam.beta`. The method `features` needs the complete
    image. The method `tail` uses only convolutions, so it can also process the features in overlapping strips.

    Args:
        num_in_ch: number of input channels, 1 or 3. Any other number needs an `rgb_mean` of that length.
        num_out_ch: number of output channels; must equal num_in_ch.
        num_feat: number of feature channels c.
        num_group: number of residual groups N. Each has num_block RCABs.
        squeeze_factor: channel attention reduces c channels to c // squeeze_factor.
        upscale: scale factor, 2, 3, 4 or 8.
        res_scale: factor that multiplies the residual of each RCAB.
        img_range: the network works with pixel values in 0..img_range.
        rgb_mean: mean of each input channel in [0, 1], which the network subtracts. None: DIV2K's mean colour, or for
            1 channel the average of the three values of that colour.
        layer_attention: name of the layer component (see components.py). None: no layer attention; conv_lam is kept.
        spatial_attention: name of the spatial component. None: no spatial attention; conv_fuse is kept.
        lam_form: form of LAM's weights, "released", "paper" or "cosine" (see LAM).
        fusion: "conv" (the authors' code) or "sum" (the paper), see the equations.
        num_csam: number of spatial attentions, 1 to N + 1. One follows conv_after_body. The others
            (`group_csam.<group>`) follow the last groups. The next group and LAM read the outputs of these others.

    Raises:
        ValueError: an argument is out of range.
        UserError: the name of a component is unknown, or the component is for the other slot.

    Source: Niu et al., ECCV 2020, figure 2, and the authors' released code. Where paper and code differ, the
    default follows the code: LAM also reads conv_after_body, and a convolution joins the outputs that the paper adds.
    Deviations: n is N + 1 (the code hard-codes 11); res_scale is used (the code ignores it); a buffer replaces the
    constant mean-shift convolutions; fast forms compute the same output (see fused.py).
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int,
        num_out_ch: int,
        num_feat: int = 64,
        num_group: int = 10,
        num_block: int = 20,
        squeeze_factor: int = 16,
        upscale: int = 4,
        res_scale: float = 1,
        img_range: float = 255.0,
        rgb_mean: Sequence[float] | None = None,
        *,
        layer_attention: str | None = "LAM",
        spatial_attention: str | None = "CSAM",
        lam_form: str = "released",
        fusion: str = "conv",
        num_csam: int = 1,
    ) -> None:
        super().__init__()
        if num_out_ch != num_in_ch:
            raise ValueError(f"num_out_ch must equal num_in_ch; got num_in_ch {num_in_ch}, num_out_ch {num_out_ch}")
        if min(num_feat, num_group, num_block, squeeze_factor) < 1:
            raise ValueError(
                "num_feat, num_group, num_block and squeeze_factor must be at least 1; "
                f"got {num_feat}, {num_group}, {num_block}, {squeeze_factor}"
            )
        if num_feat < squeeze_factor:
            raise ValueError(
                f"num_feat must be at least squeeze_factor, because channel attention reduces num_feat by this factor; "
                f"got num_feat {num_feat}, squeeze_factor {squeeze_factor}"
            )
        choices = (("upscale", upscale, SCALES), ("lam_form", lam_form, LAM_FORMS), ("fusion", fusion, FUSIONS))
        for name, value, known in choices:
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}; got {value!r}")
        if img_range == 0:
            raise ValueError("img_range must not be 0, because the network divides its output by it")
        if not 1 <= num_csam <= num_group + 1:
            raise ValueError(f"num_csam must be from 1 to num_group + 1 = {num_group + 1}; got {num_csam}")

        self.upscale = upscale
        self.img_range = img_range
        self.register_buffer("mean", _mean_tensor(rgb_mean, num_in_ch), persistent=False)

        num_layer = num_group + 1
        self.conv_first = conv3x3(num_in_ch, num_feat)
        self.body = nn.Sequential(
            *(ResidualGroup(num_feat, num_block, squeeze_factor, res_scale) for _ in range(num_group))
        )
        self.conv_after_body = conv3x3(num_feat, num_feat)
        self.lam = build_component(layer_attention, "layer", num_feat=num_feat, num_layer=num_layer, form=lam_form)
        self.conv_lam = conv3x3(num_layer * num_feat, num_feat)
        self.csam = build_component(spatial_attention, "spatial", num_feat=num_feat)
        self.group_csam = nn.ModuleDict()  # group number -> CSAM
        for group in range(num_group - num_csam + 1, num_group):
            csam = build_component(spatial_attention, "spatial", num_feat=num_feat)
            if csam is not None:
                self.group_csam[str(group)] = csam
        self.conv_fuse = conv3x3(2 * num_feat, num_feat) if fusion == "conv" else None
        self.upsample = Upsample(upscale, num_feat)
        self.conv_last = conv3x3(num_feat, num_out_ch)

    def features(self, lq: Tensor) -> Tensor:
        """Return the features (b, c, h, w) of complete images. `lq` is (b, num_in_ch, h, w) in [0, 1].

        Raises:
            ValueError: lq has a wrong number of dimensions or channels.
        """
        if lq.dim() != 4 or lq.shape[1] != self.mean.shape[1]:
            raise ValueError(f"lq must be (b, {self.mean.shape[1]}, h, w); got {tuple(lq.shape)}")
        lq = lq.contiguous(memory_format=torch.channels_last)  # convolutions are fastest in this format
        shallow = self.conv_first((lq - self.mean) * self.img_range)

        feats = [shallow]
        for number, group in enumerate(self.body):
            feat = group(feats[-1])
            feats.append(self.group_csam[str(number)](feat) if str(number) in self.group_csam else feat)
        feats.append(self.conv_after_body(feats[-1]))
        feats = feats[:0:-1]  # deepest layer first, without shallow

        # LAM and conv_lam. The fast form does not build the map of n*c channels. It runs in eager mode only.
        mixing = getattr(self.lam, "mixing", None)
        if fused.enabled() and (self.lam is None or mixing is not None):
            layered = fused.conv_of_mixture(self.conv_lam, None if mixing is None else mixing(feats), feats)
        else:  # the plain form: under torch.compile and torch.export, or if a component has no `mixing`
            layered = self.conv_lam(torch.cat(feats, dim=1) if self.lam is None else self.lam(feats))
        spatial = feats[0] if self.csam is None else self.csam(feats[0])  # (b, c, h, w)
        if self.conv_fuse is None:
            return spatial + layered + shallow
        return self.conv_fuse(torch.cat([spatial, layered], dim=1)) + shallow  # (b, 2c, h, w) -> (b, c, h, w)

    def tail(self, feat: Tensor) -> Tensor:
        """Upsample features (b, c, h, w) to images (b, num_out_ch, upscale*h, upscale*w). Do not clamp the output."""
        # The fast form moves whole pixels, not single values. It runs in eager mode only.
        feat = fused.upsample(self.upsample, feat) if fused.enabled() else self.upsample(feat)
        return self.conv_last(feat) / self.img_range + self.mean

    def forward(self, lq: Tensor) -> Tensor:
        """Upscale `lq` (b, num_in_ch, h, w) in [0, 1] to (b, num_out_ch, upscale*h, upscale*w), without clamping."""
        return self.tail(self.features(lq))


def _mean_tensor(rgb_mean: Sequence[float] | None, num_in_ch: int) -> Tensor:
    if rgb_mean is None:
        if num_in_ch not in (1, 3):
            raise ValueError(f"num_in_ch {num_in_ch} needs rgb_mean; without rgb_mean, num_in_ch must be 1 or 3")
        rgb_mean = DIV2K_RGB_MEAN if num_in_ch == 3 else (sum(DIV2K_RGB_MEAN) / 3,)
    if len(rgb_mean) != num_in_ch:
        raise ValueError(f"rgb_mean must have num_in_ch = {num_in_ch} values; got {len(rgb_mean)}: {tuple(rgb_mean)}")
    return torch.tensor(rgb_mean, dtype=torch.get_default_dtype()).view(1, num_in_ch, 1, 1)
