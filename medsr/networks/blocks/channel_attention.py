"""Residual groups with channel attention, the building blocks of RCAN and HAN (Zhang et al. 2018)."""

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import convolution


class ChannelAttention(nn.Module):
    """The factor of each channel, computed from the means of all channels (section 3.3).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels.
        reduction: The reduction (r); the hidden layer has `features // r` channels.
    """

    def __init__(self, spatial_dims: int, features: int, reduction: int) -> None:
        super().__init__()
        self.avg_pool: nn.Module = nn.AdaptiveAvgPool2d(1) if spatial_dims == 2 else nn.AdaptiveAvgPool3d(1)
        self.conv_du = nn.Sequential(
            convolution(spatial_dims, features, features // reduction, 1),
            nn.ReLU(inplace=True),
            convolution(spatial_dims, features // reduction, features, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to factors in (0, 1), (B, features, 1, ...)."""
        return self.conv_du(self.avg_pool(x))


class ResidualChannelAttentionBlock(nn.Module):
    """A convolution, a ReLU and a convolution, scaled by channel attention, plus the input (section 3.4)."""

    def __init__(self, spatial_dims: int, features: int, reduction: int) -> None:
        super().__init__()
        self.body = nn.ModuleList(
            [
                convolution(spatial_dims, features, features),
                nn.ReLU(inplace=True),
                convolution(spatial_dims, features, features),
                ChannelAttention(spatial_dims, features, reduction),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        residual = self.body[2](self.body[1](self.body[0](x)))
        return torch.addcmul(x, residual, self.body[3](residual))  # scaling and sum in one pass over memory


class ResidualGroup(nn.Module):
    """Attention blocks and a convolution, plus the input (section 3.2)."""

    def __init__(self, spatial_dims: int, features: int, blocks: int, reduction: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            ResidualChannelAttentionBlock(spatial_dims, features, reduction) for _ in range(blocks)
        ]
        self.body = nn.Sequential(*layers, convolution(spatial_dims, features, features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        return x + self.body(x)


def check_reduction(network: str, features: int, reduction: int) -> None:
    """Refuse a reduction that leaves the attention without hidden channels.

    Raises:
        MedsrError: If `reduction` is not between 1 and `features`.
    """
    if not 1 <= reduction <= features:
        raise MedsrError(f"{network} needs a reduction of 1 to its {features} features, got {reduction}")
