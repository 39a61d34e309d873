"""The residual-in-residual backbone of RCAN, which HAN keeps: RCAB, ResidualGroup, Upsample.

Source: Zhang et al., "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018. Module
names follow BasicSR's `rcan_arch.py`, so that its RCAN checkpoints load into HAN's backbone by name.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv3x3(num_in: int, num_out: int) -> nn.Conv2d:
    """3x3 convolution that keeps height and width."""
    return nn.Conv2d(num_in, num_out, 3, 1, 1)


def global_average(x: Tensor) -> Tensor:
    """Mean over all positions, (b, c, h, w) -> (b, c)."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16:
        # PyTorch's bfloat16 mean is up to ten times as slow on CPU as its sum, which accumulates in float32 too.
        return x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    return x.mean((2, 3))


class ChannelAttention(nn.Module):
    """Gate for each channel, computed from the channels' global averages.

    `gate = sigmoid(W2 relu(W1 mean_hw(x)))`

    Args:
        num_feat: channels c of the features.
        squeeze_factor: W1 maps c to c // squeeze_factor channels, W2 back.

    Deviation: none in the result. The 1x1 convolutions run on vectors, as the matrix products that they are; RCAB
    applies the gate.
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

    def forward(self, x: Tensor) -> Tensor:
        """The gate of x, (b, c, h, w) -> (b, c, 1, 1), values in 0..1."""
        _, squeeze, _, excite, _ = self.attention
        hidden = F.relu(F.linear(global_average(x), squeeze.weight.flatten(1), squeeze.bias))
        return torch.sigmoid(F.linear(hidden, excite.weight.flatten(1), excite.bias))[:, :, None, None]


class RCAB(nn.Module):
    """Residual channel attention block: `y = conv(relu(conv(x))); out = x + res_scale * CA(y) * y`.

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
        residual = conv2(relu(conv1(x)))
        return torch.addcmul(x, residual, channel_attention(residual), value=self.res_scale)


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
    """

    def __init__(self, scale: int, num_feat: int) -> None:
        stages = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for factor in stages:
            layers += [conv3x3(num_feat, factor**2 * num_feat), nn.PixelShuffle(factor)]
        super().__init__(*layers)
