"""ConvNetSR: ConvNeXt blocks (Liu et al. 2022) for super-resolution, a baseline of the dissertation (Zhu 2022)."""

from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.blocks.residual import check_sizes, convolution
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, halo_of, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class ChannelNorm(nn.Module):
    """A layer norm over the last axis, which holds the channels.

    It is a separate class as in the published program, whose count of multiply-adds omits it for that reason.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., features) to the same shape."""
        return F.layer_norm(x, [self.features], self.weight, self.bias, 1e-6)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution, a layer norm, two linear layers with GELU between them, a scale per channel, and a skip.

    Liu et al. 2022, section 2 and figure 4.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels; the hidden layer has four times as many.
    """

    def __init__(self, spatial_dims: int, features: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.dwconv: nn.Module = depthwise(features, features, 7, padding=3, groups=features)
        self.norm = ChannelNorm(features)
        self.pwconv1 = nn.Linear(features, 4 * features)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * features, features)
        self.gamma = nn.Parameter(torch.full((features,), 1e-6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape; fastest with channels last in memory."""
        y = self.norm(self.dwconv(x).movedim(1, -1))
        y = self.pwconv2(self.act(self.pwconv1(y)))
        return torch.addcmul(x.movedim(1, -1), self.gamma, y).movedim(-1, 1)


class ConvNetSR(nn.Module):
    """A convolution, ConvNeXt blocks under one skip connection, sub-pixel upsampling and a convolution.

    Zhu 2022, section 5.3 (ConvNet). The depthwise convolutions are 7x7 (7x7x7), all others 3x3 (3x3x3), and all are
    zero-padded; no convolution follows the blocks. The weights have torch's default initialisation, and the layer
    scales start at 1e-6 (Liu et al. 2022, appendix).

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        blocks: The number of blocks.
        features: The number of channels.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2}  # a small one, for trials and tests
    PUBLISHED_KEYS = ((r"^(add|sub)_mean\.", None),)  # built by the program and never applied

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        blocks: int = 16,
        features: int = 64,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("ConvNetSR", spatial_dims, in_channels, out, blocks=blocks, features=features)
        self.spatial_dims = spatial_dims
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features))
        self.body = nn.Sequential(*[ConvNeXtBlock(spatial_dims, features) for _ in range(blocks)])
        self.tail = nn.Sequential(
            SubpixelUpsampler(spatial_dims, features, scale), convolution(spatial_dims, features, out)
        )
        hidden = 4 * features * (2 * 4 + 3)  # the maps before and after GELU, and three of the block's width
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, 1 + 3 * blocks), *subpixel_tail_radii(scale)]),
            bytes_per_voxel=max(hidden, subpixel_tail_bytes(spatial_dims, features, scale)),
            paper="Zhu 2022, section 5.3, after Liu et al. 2022",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        x = self.head(lr)
        if self.spatial_dims == 2:  # channels last, so that the blocks move the channels to the end without copies
            x = x.contiguous(memory_format=torch.channels_last)
        else:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return self.tail(self.body(x) + x)


PRESETS = {
    "convnet-lite-zhu2022": Preset(
        ConvNetSR,
        {},
        880_321,
        leaf_parameters=877_249,
        multiply_adds={"conv": 1.6916, "thop": 1.6916, "all": 1.6916},
        published="0.88 M, 1.69 G (Zhu 2022, table 5.1)",
    ),
    "convnet-large-zhu2022": Preset(
        ConvNetSR,
        {"blocks": 32, "features": 192},
        12_452_929,
        leaf_parameters=12_434_497,
        multiply_adds={"conv": 20.9960, "thop": 20.9960, "all": 20.9960},
        published="12.43 M, 21.00 G (Zhu 2022, table 5.1)",
        remark="the table leaves out layer norms and layer scales",
    ),
}
