"""What several networks are built of: convolutions, activations, the residual block, intensity shifts."""

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medsr.errors import MedsrError


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, bias: bool = True
) -> nn.Module:
    """A zero-padded convolution that keeps the size at stride 1; weights as torch draws them."""
    layer: nn.Module = Conv[Conv.CONV, spatial_dims](
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
    )
    return layer


def activation(name: str) -> nn.Module:
    """A new activation layer: "relu", "leaky_relu" (slope 0.2, as in the dissertation) or "prelu".

    Raises:
        MedsrError: unknown name.
    """
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(0.2, inplace=True)
    if name == "prelu":
        return nn.PReLU()
    raise MedsrError(f"an activation is one of relu, leaky_relu, prelu; got {name!r}")


class ResidualBlock(nn.Module):
    """Convolution, activation, convolution, times `res_scale`, plus the input (Lim et al. 2017, figure 2c).

    Args:
        spatial_dims: 2 or 3.
        features: channels.
        act: see `activation`.
        res_scale: factor of the residual (Lim et al. 2017, section 3.3).
        kernel_size: of both convolutions.
    """

    def __init__(
        self, spatial_dims: int, features: int, act: str = "relu", res_scale: float = 1.0, kernel_size: int = 3
    ) -> None:
        super().__init__()
        self.res_scale = res_scale
        self.body = nn.Sequential(
            convolution(spatial_dims, features, features, kernel_size),
            activation(act),
            convolution(spatial_dims, features, features, kernel_size),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, features, *spatial) to the same."""
        residual = self.body(x)
        if self.res_scale != 1.0:
            residual = residual * self.res_scale
        return residual + x


class MeanShift(nn.Module):
    """A constant affine map of the intensities, before (`inverse=False`) or after a network.

    Stored as the weights of a 1x1 convolution, as published programs store it, so that their state dicts fit;
    they are buffers here: no optimiser ever moves them.

    Args:
        spatial_dims: 2 or 3.
        channels: of the image.
        mean: of each channel over the training set; zero where the images are used as they are.
        std: of each channel.
        inverse: add the mean back instead of taking it away.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, spatial_dims: int, channels: int, mean: Sequence[float], std: Sequence[float], inverse: bool = False
    ) -> None:
        super().__init__()
        if len(mean) != channels or len(std) != channels:
            raise MedsrError(f"{channels} channel(s) need as many means and deviations, got {len(mean)} and {len(std)}")
        shift, spread = torch.tensor(mean), torch.tensor(std)
        gain, offset = (spread, shift) if inverse else (1 / spread, -shift / spread)
        self.register_buffer("weight", torch.diag(gain).reshape(channels, channels, *[1] * spatial_dims))
        self.register_buffer("bias", offset)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, channels, *spatial) to the same."""
        shape = [-1] + [1] * (image.dim() - 2)
        gain = torch.diagonal(self.weight.flatten(1)).reshape(shape)
        return image * gain + self.bias.reshape(shape)


def mean_shifts(
    spatial_dims: int, channels: int, mean: Sequence[float] | float, std: Sequence[float] | float
) -> tuple[MeanShift, MeanShift]:
    """The pair around a network; single numbers hold for all channels."""
    means = [float(mean)] * channels if isinstance(mean, int | float) else [float(m) for m in mean]
    stds = [float(std)] * channels if isinstance(std, int | float) else [float(s) for s in std]
    return MeanShift(spatial_dims, channels, means, stds), MeanShift(spatial_dims, channels, means, stds, inverse=True)
