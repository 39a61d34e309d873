"""RCAN's backbone, which HAN keeps: RCAB, ResidualGroup, Upsample.

Source: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018. Module
names follow BasicSR's `rcan_arch.py`, so its RCAN checkpoints load into HAN's backbone by name.
"""

from typing import Any

from torch import Tensor, nn

import han_arch.archs.fused as fused


def conv3x3(num_in: int, num_out: int) -> nn.Conv2d:
    """Return a 3x3 convolution that keeps height and width."""
    return nn.Conv2d(num_in, num_out, 3, 1, 1)


class ChannelAttention(nn.Module):
    """Channel attention: a gate for each channel from the channels' global averages.

    `out = x + res_scale * gate * y` with `gate = sigmoid(W2 relu(W1 mean_hw(y)))`

    Args:
        num_feat: channels c of the features.
        squeeze_factor: W1 maps c to c // squeeze_factor channels, W2 maps back.

    Deviation: none in the result. The 1x1 convolutions run as matrix products on vectors, and the sum with the skip is
    part of the module.
    """

    def __init__(self, num_feat: int, squeeze_factor: int = 16) -> None:
        super().__init__()
        num_squeezed = num_feat // squeeze_factor
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, num_squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(num_squeezed, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, y: Tensor, res_scale: float) -> Tensor:
        """Gate the residual y and add it to the skip x; all maps (b, c, h, w)."""
        layers: list[Any] = list(self.attention)
        _, squeeze, _, excite, _ = layers
        weights = (squeeze.weight.flatten(1), squeeze.bias, excite.weight.flatten(1), excite.bias)
        return fused.gated_residual(x, y, weights, res_scale)


class RCAB(nn.Module):
    """Residual channel attention block: `y = conv(relu(conv(x))); out = x + res_scale * gate(y) * y`.

    Deviation: the HAN authors' code accepts res_scale and ignores it; here it works.
    """

    def __init__(self, num_feat: int, squeeze_factor: int = 16, res_scale: float = 1) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.rcab = nn.Sequential(
            conv3x3(num_feat, num_feat),
            nn.ReLU(inplace=True),
            conv3x3(num_feat, num_feat),
            ChannelAttention(num_feat, squeeze_factor),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, (b, c, h, w) -> (b, c, h, w)."""
        conv1, relu, conv2, channel_attention = self.rcab
        return channel_attention(x, conv2(relu(conv1(x))), self.res_scale)


class ResidualGroup(nn.Module):
    """`num_block` RCABs, a convolution, and the short skip around both."""

    def __init__(self, num_feat: int, num_block: int, squeeze_factor: int = 16, res_scale: float = 1) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(RCAB(num_feat, squeeze_factor, res_scale) for _ in range(num_block)))
        self.conv = conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the group, (b, c, h, w) -> (b, c, h, w)."""
        return x + self.conv(self.residual_group(x))


class Upsample(nn.Sequential):
    """Sub-pixel upsampling by 2, 3, 4 or 8: one x3 stage for scale 3, else x2 stages.

    `HAN.tail` runs it in a fast form, see `fused.upsample`.
    """

    def __init__(self, scale: int, num_feat: int) -> None:
        layers: list[nn.Module] = []
        for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
            layers += [conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)
