"""Decoder blocks of fastai's "dynamic U-Net": sub-pixel enlargement and concatenation with the encoder's features."""

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.blocks.weight_normalization import SelfAttention, WeightNormConv2d

NORMS = ("weight", "batch", "none")


def conv_layer(in_channels: int, out_channels: int, kernel_size: int, norm: str, relu: bool = True) -> list[nn.Module]:
    """Return a convolution, a ReLU and, for the norm "batch", a batch norm; He-normal weights and zero biases."""
    if norm == "weight":
        convolution: nn.Conv2d = WeightNormConv2d(in_channels, out_channels, kernel_size)
    else:
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=norm == "none")
    set_kernels(convolution, nn.init.kaiming_normal_(torch.empty_like(convolution.weight)))
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    layers: list[nn.Module] = [convolution]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    if norm == "batch":
        layers.append(barely_shifted_norm(out_channels))
    return layers


def set_kernels(convolution: nn.Conv2d, kernels: torch.Tensor) -> None:
    """Set the kernels of a convolution, whether it is weight-normalised or not."""
    if isinstance(convolution, WeightNormConv2d):
        convolution.set_kernels(kernels)
    else:
        convolution.weight.data.copy_(kernels)


def barely_shifted_norm(features: int) -> nn.BatchNorm2d:
    """Return a batch norm that starts as in fastai, slightly off the kink of a ReLU."""
    layer = nn.BatchNorm2d(features)
    nn.init.constant_(layer.bias, 1e-3)
    return layer


class SubpixelShuffle(nn.Module):
    """Enlargement by 2: a 1x1 convolution, a ReLU, a pixel shuffle, and a 2x2 average against checkerboard patterns.

    The weights start with ICNR (Aitken et al. 2017, section 3.2): He-normal kernels that are equal for the four pixels
    that one pixel becomes, so that the module starts as nearest-neighbour enlargement.

    Args:
        in_channels: The number of channels of the input.
        features: The number of channels of the output.
        norm: The normalisation, see `ResNetUNet`.
        blur: Whether each pixel is averaged with its neighbours to the left and above, with repeated borders (Sugawara
            et al. 2018).
    """

    def __init__(self, in_channels: int, features: int, norm: str, blur: bool) -> None:
        super().__init__()
        self.blur = blur
        layers = conv_layer(in_channels, 4 * features, 1, norm, relu=False)
        convolution = layers[0]
        assert isinstance(convolution, nn.Conv2d)
        kernels = nn.init.kaiming_normal_(torch.empty(features, in_channels, 1, 1, device=convolution.weight.device))
        set_kernels(convolution, kernels.repeat_interleave(4, dim=0))
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, H, W) to (B, features, 2 H, 2 W)."""
        x = F.pixel_shuffle(F.relu(self.conv(x)), 2)
        if self.blur:  # axis by axis: many times faster than average pooling on a CPU
            x = F.pad(x, [1, 0, 1, 0], mode="replicate")
            x = x[..., 1:] + x[..., :-1]
            x = (x[..., 1:, :] + x[..., :-1, :]) * 0.25
        return x


class UnetBlock(nn.Module):
    """Enlargement, concatenation with the encoder's features of that size, and two 3x3 convolutions.

    Args:
        in_channels: The number of channels of the coarser input.
        skip_channels: The number of channels of the encoder's features.
        features: The number of channels of the output.
        norm: The normalisation, see `ResNetUNet`.
        blur: Whether to average, see `SubpixelShuffle`.
        self_attention: Whether self-attention follows the convolutions.
    """

    def __init__(
        self, in_channels: int, skip_channels: int, features: int, norm: str, blur: bool, self_attention: bool
    ) -> None:
        super().__init__()
        joined = in_channels // 2 + skip_channels
        self.shuf = SubpixelShuffle(in_channels, in_channels // 2, norm, blur)
        self.bn = barely_shifted_norm(skip_channels)
        self.conv1 = nn.Sequential(*conv_layer(joined, features, 3, norm))
        attention = [SelfAttention(features)] if self_attention else []
        self.conv2 = nn.Sequential(*conv_layer(features, features, 3, norm), *attention)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, ceil(H / 2), ceil(W / 2)) and (B, skip_channels, H, W) to (B, features, H, W)."""
        x = crop(self.shuf(x), skip)
        # The published ReLU after the concatenation changes only the skip; the other part already passed one.
        return self.conv2(self.conv1(torch.cat([x, F.relu(self.bn(skip))], dim=1)))


def crop(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Crop to the size of another tensor, which is at most one pixel smaller.

    The published program interpolates with nearest neighbours; from n + 1 to n pixels this drops the last one.
    """
    return x[..., : like.shape[-2], : like.shape[-1]]
