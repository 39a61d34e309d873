"""HAN, the whole network: RCAN's backbone, layer attention over its groups, channel-spatial attention on its end."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from han_arch.archs.attention import LAM_FORMS
from han_arch.archs.blocks import ResidualGroup, Upsample, conv3x3
from han_arch.archs.components import build_component
from han_arch.archs.layer_mixing import conv_of_mixture

DIV2K_RGB_MEAN = (0.4488, 0.4371, 0.4040)
SCALES = (2, 3, 4, 8)
FUSIONS = ("conv", "sum")


class HAN(nn.Module):
    """Holistic Attention Network: (b, num_in_ch, h, w) in [0, 1] -> (b, num_out_ch, upscale*h, upscale*w), not clamped.

    With shallow = conv_first(lq) (the paper's F_0), feats = [conv_after_body, group N, ..., group 1] and n = N + 1:

        features = conv_fuse([CSAM(feats_0), conv_lam(LAM(feats))]) + shallow        (fusion "conv")
        features = CSAM(feats_0) + conv_lam(LAM(feats)) + shallow                    (fusion "sum")
        out = conv_last(upsample(features))

    The paper's alpha is `lam.alpha`, its beta `csam.beta`. `features` holds all that is global over the image, `tail`
    only convolutions.

    Args:
        num_in_ch: channels of the input, 1 or 3 (any other with an `rgb_mean` of that length).
        num_out_ch: equal to num_in_ch.
        num_feat: channels c of the features.
        num_group: residual groups N.
        num_block: RCABs in a group.
        squeeze_factor: channel attention squeezes c to c // squeeze_factor.
        upscale: 2, 3, 4 or 8.
        res_scale: factor on each RCAB's residual.
        img_range: the network works on values of 0..img_range.
        rgb_mean: subtracted from the input, in [0, 1]. None: DIV2K's for 3 channels, its mean for 1.
        layer_attention: name of a layer component (see components.py); None leaves it out, conv_lam stays.
        spatial_attention: name of a spatial component; None leaves it out, conv_fuse stays.
        lam_form: "released", "paper" or "cosine", see LAM.
        fusion: "conv" (the authors' code) or "sum" (the paper).
        num_csam: k spatial attentions: one on conv_after_body, and one of its own at the end of each of the last k - 1
            groups (`group_csam.<group>`), whose output the next group and LAM see.

    Raises:
        ValueError: an argument out of its range.

    Source: Niu et al., ECCV 2020, figure 2, and the authors' released code, which is the default where they differ: LAM
    reads conv_after_body besides the N groups, and the fusion is a convolution where the paper adds. Deviations: n is
    N + 1 where the code fixes 11; res_scale works; the constant mean-shift convolutions are a buffer; LAM's mixing is
    folded into conv_lam's weights (see layer_mixing.py), with the same result.
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
                f"num_feat must be at least squeeze_factor, or channel attention has no channel left; "
                f"got num_feat {num_feat}, squeeze_factor {squeeze_factor}"
            )
        if upscale not in SCALES:
            raise ValueError(f"upscale must be one of 2, 3, 4, 8; got {upscale!r}")
        if lam_form not in LAM_FORMS:
            raise ValueError(f"lam_form must be one of {', '.join(LAM_FORMS)}; got {lam_form!r}")
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}; got {fusion!r}")
        if not 1 <= num_csam <= num_group + 1:
            raise ValueError(f"num_csam must be 1 to num_group + 1 = {num_group + 1}; got {num_csam}")

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
        self.group_csam = nn.ModuleDict()  # by the group's number
        for group in range(num_group - num_csam + 1, num_group):
            csam = build_component(spatial_attention, "spatial", num_feat=num_feat)
            if csam is not None:
                self.group_csam[str(group)] = csam
        self.conv_fuse = conv3x3(2 * num_feat, num_feat) if fusion == "conv" else None
        self.upsample = Upsample(upscale, num_feat)
        self.conv_last = conv3x3(num_feat, num_out_ch)

    def features(self, lq: Tensor) -> Tensor:
        """All that is global over the image: (b, num_in_ch, h, w) in [0, 1] -> (b, c, h, w).

        Raises:
            ValueError: lq has another number of channels.
        """
        if lq.dim() != 4 or lq.shape[1] != self.mean.shape[1]:
            raise ValueError(f"lq must be (b, {self.mean.shape[1]}, h, w); got {tuple(lq.shape)}")
        lq = lq.contiguous(memory_format=torch.channels_last)  # the convolutions' fast format; every map keeps it
        shallow = self.conv_first((lq - self.mean) * self.img_range)

        feats = [shallow]
        for number, group in enumerate(self.body):
            feat = group(feats[-1])
            feats.append(self.group_csam[str(number)](feat) if str(number) in self.group_csam else feat)
        feats.append(self.conv_after_body(feats[-1]))
        feats = feats[:0:-1]  # newest first, without shallow

        layered = self._convolved_layers(feats)  # (b, c, h, w)
        spatial = feats[0] if self.csam is None else self.csam(feats[0])  # (b, c, h, w)
        if self.conv_fuse is None:
            return spatial + layered + shallow
        return self.conv_fuse(torch.cat([spatial, layered], dim=1)) + shallow  # (b, 2c, h, w) -> (b, c, h, w)

    def _convolved_layers(self, feats: list[Tensor]) -> Tensor:
        """conv_lam over the attended layers: n maps (b, c, h, w) -> (b, c, h, w)."""
        if self.lam is None:
            return conv_of_mixture(self.conv_lam.weight, self.conv_lam.bias, None, feats)
        mixing = getattr(self.lam, "mixing", None)
        if mixing is not None:
            return conv_of_mixture(self.conv_lam.weight, self.conv_lam.bias, mixing(feats), feats)
        return self.conv_lam(self.lam(feats))

    def tail(self, feat: Tensor) -> Tensor:
        """Convolutions only: (b, c, h, w) -> (b, num_out_ch, upscale*h, upscale*w), in [0, 1] but not clamped."""
        return self.conv_last(self.upsample(feat)) / self.img_range + self.mean

    def forward(self, lq: Tensor) -> Tensor:
        """Super-resolve lq, (b, num_in_ch, h, w) in [0, 1] -> (b, num_out_ch, upscale*h, upscale*w), not clamped."""
        return self.tail(self.features(lq))


def _mean_tensor(rgb_mean: Sequence[float] | None, num_in_ch: int) -> Tensor:
    if rgb_mean is None:
        if num_in_ch not in (1, 3):
            raise ValueError(f"num_in_ch must be 1 or 3 unless rgb_mean is given; got {num_in_ch}")
        rgb_mean = DIV2K_RGB_MEAN if num_in_ch == 3 else (sum(DIV2K_RGB_MEAN) / 3,)
    if len(rgb_mean) != num_in_ch:
        raise ValueError(f"rgb_mean must have num_in_ch = {num_in_ch} values; got {len(rgb_mean)}: {tuple(rgb_mean)}")
    return torch.tensor(rgb_mean, dtype=torch.get_default_dtype()).view(1, num_in_ch, 1, 1)
