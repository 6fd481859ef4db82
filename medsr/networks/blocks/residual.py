"""The parts that many networks share: convolutions, activations, residual blocks and intensity shifts."""

from collections.abc import Sequence
from typing import Optional

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import nn

from medsr.errors import MedsrError


def check_sizes(network: str, spatial_dims: int, in_channels: int, out_channels: int, **sizes: int) -> None:
    """Refuse numbers that do not describe a generator.

    Args:
        network: The name of the network, for the message.
        spatial_dims: The number of spatial axes, which must be 2 or 3.
        in_channels: The number of input channels, which must be at least 1.
        out_channels: The number of output channels, which must be between 1 and `in_channels`.
        **sizes: All other numbers that must be at least 1, by the name of the argument.

    Raises:
        MedsrError: If one of them is out of range.
    """
    if spatial_dims not in (2, 3):
        raise MedsrError(f"{network} works in 2 or 3 dimensions, got spatial_dims {spatial_dims}")
    for name, size in {"in_channels": in_channels, **sizes}.items():
        if size < 1:
            raise MedsrError(f"{network} needs {name} of at least 1, got {size}")
    if not 1 <= out_channels <= in_channels:
        raise MedsrError(
            f"{network} restores 1 to {in_channels} of its input channels, got out_channels {out_channels}"
        )


def convolution(
    spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, bias: bool = True
) -> nn.Module:
    """Return a zero-padded convolution that keeps the size at stride 1, with torch's default initialisation."""
    layer: nn.Module = Conv[Conv.CONV, spatial_dims](
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
    )
    return layer


def batch_norm(spatial_dims: int, features: int) -> nn.Module:
    """Return a batch normalisation with torch's defaults (Ioffe and Szegedy 2015)."""
    layer: nn.Module = Norm[Norm.BATCH, spatial_dims](features)
    return layer


def activation(name: str) -> nn.Module:
    """Return a new activation layer: "relu", "leaky_relu" (slope 0.2, as in the dissertation) or "prelu".

    Raises:
        MedsrError: If the name is unknown.
    """
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(0.2, inplace=True)
    if name == "prelu":
        return nn.PReLU()
    raise MedsrError(f"an activation is one of relu, leaky_relu, prelu; got {name!r}")


def draw_he_normal(network: nn.Module, gain: float) -> None:
    """Draw the weights of all convolutions from N(0, 2 / fan_in) times `gain` and zero the biases (He et al. 2015)."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight)
            layer.weight.data.mul_(gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class ResidualBlock(nn.Module):
    """A convolution, an activation and a convolution, times `res_scale`, plus the input (Lim et al. 2017, figure 2c).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels.
        act: The activation, see `activation`.
        res_scale: The factor of the residual (Lim et al. 2017, section 3.3).
        kernel_size: The kernel size of both convolutions.
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
        """Map (B, features, *spatial) to the same shape."""
        return torch.add(x, self.body(x), alpha=self.res_scale)


class NormalisedBlock(nn.Module):
    """Two convolutions with batch norm and an activation between them, plus the input (Ledig et al. 2017, figure 4).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels.
        act: The activation layer.
        last: The layer between the second batch norm and the sum, if any.
    """

    def __init__(self, spatial_dims: int, features: int, act: nn.Module, last: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(spatial_dims, features, features),
            batch_norm(spatial_dims, features),
            act,
            convolution(spatial_dims, features, features),
            batch_norm(spatial_dims, features),
            *([] if last is None else [last]),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        return self.body(x) + x


def residual_body(
    spatial_dims: int, features: int, blocks: int, act: str = "relu", res_scale: float = 1.0
) -> nn.Module:
    """Return residual blocks and a closing convolution: the part of EDSR that its skip connection spans (figure 3)."""
    layers: list[nn.Module] = [ResidualBlock(spatial_dims, features, act, res_scale) for _ in range(blocks)]
    return nn.Sequential(*layers, convolution(spatial_dims, features, features))


class MeanShift(nn.Module):
    """A constant affine map of the intensities, before (`inverse=False`) or after a network.

    It is stored as the weights of a 1x1 convolution, as in published programs, so that their state dicts fit. The
    weights are buffers here, so that no optimiser changes them.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        channels: The number of channels of the image.
        mean: The mean of each channel over the training set; zero if the images are used as they are.
        std: The standard deviation of each channel.
        inverse: Whether the mean is added instead of subtracted.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, spatial_dims: int, channels: int, mean: Sequence[float], std: Sequence[float], inverse: bool = False
    ) -> None:
        super().__init__()
        if len(mean) != channels or len(std) != channels:
            raise MedsrError(f"{channels} channel(s) need as many means and deviations, got {len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise MedsrError(f"standard deviations must be positive, got {list(std)}")
        shift, spread = torch.tensor(mean), torch.tensor(std)
        gain, offset = (spread, shift) if inverse else (1 / spread, -shift / spread)
        self.register_buffer("weight", torch.diag(gain).reshape(channels, channels, *[1] * spatial_dims))
        self.register_buffer("bias", offset)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, *spatial) to the same shape.

        Raises:
            MedsrError: If the number of channels differs; surplus channels would otherwise go unnoticed.
        """
        if not torch.jit.is_scripting():
            self._check(image.shape[1])
        # The whole matrix is used, not only its diagonal, because some published programs train it. It is applied
        # element by element, because in a convolution autocast and TF32 would round the image.
        shape = [-1] + [1] * (image.dim() - 2)
        shifted = self.bias.reshape(shape)
        for channel in range(self.bias.numel()):
            shifted = torch.addcmul(shifted, image[:, channel : channel + 1], self.weight[:, channel])
        return shifted

    @torch.jit.unused
    def _check(self, channels: int) -> None:
        """Refuse images with another number of channels."""
        if channels != self.bias.numel():
            raise MedsrError(
                f"expected images of {self.bias.numel()} channel(s), for which the network was built, got {channels}; "
                "build the network for that number (in configs: --channels)"
            )


def mean_shifts(
    spatial_dims: int,
    channels: int,
    mean: Sequence[float] | float,
    std: Sequence[float] | float,
    out_channels: Optional[int] = None,
) -> tuple[MeanShift, MeanShift]:
    """Return the pair of shifts before and after a network; a single number holds for all channels.

    The output of the network has the first `out_channels` channels of its input.
    """
    means = [float(mean)] * channels if isinstance(mean, int | float) else [float(m) for m in mean]
    stds = [float(std)] * channels if isinstance(std, int | float) else [float(s) for s in std]
    last = channels if out_channels is None else out_channels
    after = MeanShift(spatial_dims, last, means[:last], stds[:last], inverse=True)
    return MeanShift(spatial_dims, channels, means, stds), after
