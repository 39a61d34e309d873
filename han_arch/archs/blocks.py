"""The residual-in-residual backbone of RCAN, which HAN keeps: RCAB, ResidualGroup, Upsample.

Source: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018. Module
names follow BasicSR's `rcan_arch.py`, so that its RCAN checkpoints load into HAN's backbone by name.
"""

from typing import cast

import torch
from torch import Tensor, nn

from han_arch.archs.channel_gate import gated_residual


def conv3x3(num_in: int, num_out: int) -> nn.Conv2d:
    """3x3 convolution that keeps height and width."""
    return nn.Conv2d(num_in, num_out, 3, 1, 1)


class ChannelAttention(nn.Module):
    """The parameters of channel attention: the gate of each channel, computed from the channels' global averages.

    `gate = sigmoid(W2 relu(W1 mean_hw(y)))`

    Args:
        num_feat: channels c of the features.
        squeeze_factor: W1 maps c to c // squeeze_factor channels, W2 back.

    Deviation: none in the result. The 1x1 convolutions run on vectors, as the matrix products that they are, and the
    gated map is added to the block's input in the same step.
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

    def forward(self, x: Tensor, residual: Tensor, res_scale: float) -> Tensor:
        """`x + res_scale * gate * residual`; all maps (b, c, h, w)."""
        squeeze, excite = (layer for layer in self.attention if isinstance(layer, nn.Conv2d))
        return gated_residual(x, residual, _as_matrix(squeeze), _as_matrix(excite), res_scale)


def _as_matrix(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution's weight (out, in) and bias."""
    return conv.weight.flatten(1), cast(Tensor, conv.bias)


class RCAB(nn.Module):
    """Residual channel attention block: `y = conv(relu(conv(x))); out = x + res_scale * gate(y) * y`.

    Args:
        num_feat: channels of the features.
        squeeze_factor: see ChannelAttention.
        res_scale: factor on the residual. The HAN authors' code accepts it and ignores it; here it works.
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
    """`num_block` RCABs and a convolution, with the short skip around them.

    Args:
        num_feat: channels of the features.
        num_block: number of RCABs.
        squeeze_factor: see ChannelAttention.
        res_scale: see RCAB.
    """

    def __init__(self, num_feat: int, num_block: int, squeeze_factor: int = 16, res_scale: float = 1) -> None:
        super().__init__()
        self.residual_group = nn.Sequential(*(RCAB(num_feat, squeeze_factor, res_scale) for _ in range(num_block)))
        self.conv = conv3x3(num_feat, num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the group, (b, c, h, w) -> (b, c, h, w)."""
        return x + self.conv(self.residual_group(x))


class Upsample(nn.Sequential):
    """Sub-pixel upsampling: one x3 stage for scale 3, else as many x2 stages as it takes.

    Args:
        scale: 2, 3, 4 or 8.
        num_feat: channels of the features.

    Deviation: none in the result. The convolution's output channels are computed in the order in which channels_last
    stores the upsampled map, so that the pixel shuffle moves whole pixels.
    """

    def __init__(self, scale: int, num_feat: int) -> None:
        stages = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for factor in stages:
            layers += [conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Upsample, (b, c, h, w) -> (b, c, scale*h, scale*w)."""
        if torch.compiler.is_compiling():
            return super().forward(x)
        for layer in self:
            if isinstance(layer, nn.PixelShuffle):
                x = _shuffle_pixels(x, layer.upscale_factor)
            elif isinstance(layer, nn.Conv2d):
                x = _conv_in_pixel_order(x, layer)
        return x


def _conv_in_pixel_order(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """The convolution with its output channels, c*r*r of them, in the order r*r*c; r*r is their number per input."""
    factor_squared = conv.out_channels // conv.in_channels
    weight = conv.weight.unflatten(0, (-1, factor_squared)).transpose(0, 1).flatten(0, 1)
    bias = None if conv.bias is None else conv.bias.unflatten(0, (-1, factor_squared)).T.flatten()
    return conv._conv_forward(x, weight, bias)  # the layer's own way to convolve, which a subclass may change


def _shuffle_pixels(x: Tensor, factor: int) -> Tensor:
    """(b, r*r*c, h, w) -> (b, c, r*h, r*w), both in channels_last."""
    b, _, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(b, h, w, factor, factor, -1).transpose(2, 3)  # (b, h, r, w, r, c)
    return pixels.reshape(b, factor * h, factor * w, -1).permute(0, 3, 1, 2)
