"""RCAN: very deep residual groups with channel attention (Zhang et al. 2018)."""

from collections.abc import Sequence
from typing import Optional

import torch
from torch import nn

from medsr.networks.blocks.channel_attention import ResidualGroup, check_reduction
from medsr.networks.blocks.residual import check_sizes, convolution, mean_shifts
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, subpixel_tail_bytes
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class RCAN(nn.Module):
    """The residual channel attention network (Zhang et al. 2018, section 3).

    A convolution, residual groups of residual blocks with channel attention ("residual in residual"), a convolution, a
    skip connection over these groups, a sub-pixel upsampler and an output convolution. The weights have torch's
    default initialisation, as published. The attention averages over the whole image, so that a tiled result differs
    slightly from the whole-image result.

    Args:
        in_channels: The number of channels of the image.
        out_channels: The number of channels to restore, the first ones of the image; all by default.
        scale: The scale, a power of two or 3.
        features: The number of channels of all layers (C, 64 in section 3.5).
        groups: The number of residual groups (G, 10 in the paper).
        blocks: The number of attention blocks in each group (B, 20 in the paper).
        reduction: The reduction of the channel attention (r, 16 in the paper).
        mean: The mean that is subtracted from the image and added to the result, one number or one per channel.
        std: The standard deviation that the image is divided by, one number or one per channel. The authors'
            checkpoints contain the means of their RGB images, for intensities 0..255.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "groups": 2, "blocks": 2, "reduction": 2}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 64,
        groups: int = 10,
        blocks: int = 20,
        reduction: int = 16,
        mean: Sequence[float] | float = 0.0,
        std: Sequence[float] | float = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("RCAN", spatial_dims, in_channels, out, features=features, groups=groups, blocks=blocks)
        check_reduction("RCAN", features, reduction)
        self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out)
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features))
        body: list[nn.Module] = [ResidualGroup(spatial_dims, features, blocks, reduction) for _ in range(groups)]
        self.body = nn.Sequential(*body, convolution(spatial_dims, features, features))
        self.tail = nn.Sequential(
            SubpixelUpsampler(spatial_dims, features, scale), convolution(spatial_dims, features, out)
        )
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            bytes_per_voxel=4 * features + subpixel_tail_bytes(spatial_dims, features, scale),
            paper="Zhang et al. 2018, section 3",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Super-resolve an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        x = self.head(self.sub_mean(lr))
        return self.add_mean(self.tail(x + self.body(x)))


PRESETS = {
    "rcan": Preset(
        RCAN,
        {},
        parameters=15_590_049,
        published="32.03 M, 41.34 G (Zhu 2022, table 5.1)",
        remark="the dissertation ran another network: each 3x3 convolution of a block is replaced by two, blended by a "
        "hard mask that is never trained and that scrambles the pixels of images that are not square; this fault is "
        "not reproduced",
    ),
    "rcan-rgb": Preset(
        RCAN,
        {"in_channels": 3},
        parameters=15_592_379,
        left_out=24,
        multiply_adds={"all": 20.375},
        remark="the authors' program trains the 24 numbers that shift the intensities; here they are constants",
    ),
}
