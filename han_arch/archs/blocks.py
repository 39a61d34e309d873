"""The backbone that HAN shares with RCAN: RCAB, ResidualGroup, Upsample.

Source: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018. The
modules have the names of BasicSR's `rcan_arch.py`, so BasicSR's RCAN checkpoints load into HAN's backbone.
"""

from typing import Any

from torch import Tensor, nn

import han_arch.archs.fused as fused


def conv3x3(num_in: int, num_out: int) -> nn.Conv2d:
    """Return a new 3x3 convolution layer that keeps height and width."""
    return nn.Conv2d(num_in, num_out, 3, 1, 1)


class ChannelAttention(nn.Module):
    """Channel attention: one gate per channel, computed from the global averages of all channels.

    `out = x + res_scale * gate * y` with `gate = sigmoid(W2 relu(W1 mean_hw(y)))`. W1 reduces the num_feat channels to
    num_feat // squeeze_factor, and W2 restores them.

    Deviations: the 1x1 convolutions run as matrix products, with the same output. The module also adds the skip x.
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
        """Multiply the residual y by its gates and res_scale, then add the skip x; all maps are (b, c, h, w)."""
        layers: list[Any] = list(self.attention)
        _, squeeze, _, excite, _ = layers
        weights = (squeeze.weight.flatten(1), squeeze.bias, excite.weight.flatten(1), excite.bias)
        return fused.gated_residual(x, y, weights, res_scale)


class RCAB(nn.Module):
    """Residual channel attention block: `y = conv(relu(conv(x))); out = x + res_scale * gate(y) * y`.

    Deviation: the HAN authors' code ignores its argument res_scale. This class uses it.
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
        """Apply the block to a map (b, c, h, w); return a map of the same shape."""
        conv1, relu, conv2, channel_attention = self.rcab
        return channel_attention(x, conv2(relu(conv1(x))), self.res_scale)


class ResidualGroup(nn.Module):
    """Residual group: num_block RCABs, then a convolution, then the sum with the input."""

    def __init__(self, num_feat: int, num_block: int, squeeze_factor: int = 16, res_scale: float = 1) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(RCAB(num_feat, squeeze_factor, res_scale) for _ in range(num_block)))
        self.conv = conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the group to a map (b, c, h, w); return a map of the same shape."""
        return x + self.conv(self.residual_group(x))


class Upsample(nn.Sequential):
    """Sub-pixel upsampling by 2, 3, 4 or 8. Scale 3 has one x3 stage; the other scales have one or more x2 stages."""

    def __init__(self, scale: int, num_feat: int) -> None:
        layers: list[nn.Module] = []
        for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
            layers += [conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)
