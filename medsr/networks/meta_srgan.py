"""Meta-SRGAN's generator: SRResNet with the meta-upscale module (Tan et al. 2020)."""

from typing import Any, Optional

import torch
from torch import nn

from medsr.networks.blocks.arbitrary_scale import ArbitraryScaleNetwork, MetaOptions
from medsr.networks.blocks.residual import NormalisedBlock, batch_norm, check_sizes, convolution
from medsr.networks.preset import Preset

_HEAD = 9


class MetaSRGANGenerator(ArbitraryScaleNetwork):
    """A 9x9 convolution, residual blocks with batch norm under one skip connection, and the meta-upscale module.

    Tan et al. 2020, figure 4, and its author's program. Only the program says that there are 5 blocks; the published
    count agrees. The example of the program feeds ones instead of positions to the weight prediction "for simplicity",
    which makes all output voxels of an input voxel equal; here, as in the paper it builds on, positions are used.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        blocks: The number of residual blocks.
        features: The number of channels.
        spatial_dims: The number of spatial axes, 2 or 3.
        options: The arguments of `MetaOptions`: scale, mean, std, anisotropic, positions, largest_scale.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        blocks: int = 5,
        features: int = 64,
        spatial_dims: int = 2,
        **options: Any,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("MetaSRGANGenerator", spatial_dims, in_channels, out, blocks=blocks, features=features)
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features, _HEAD), nn.PReLU())
        self.body = nn.Sequential(
            *[NormalisedBlock(spatial_dims, features, nn.PReLU()) for _ in range(blocks)],
            convolution(spatial_dims, features, features),
            batch_norm(spatial_dims, features),
        )
        self.finish(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            features=features,
            radius=_HEAD // 2 + 2 * blocks + 1,
            # torch may unfold the input of the first convolution, which matters for 9x9x9 filters
            maps=8 * features + in_channels * _HEAD**spatial_dims,
            paper="Tan et al. 2020, figure 4",
            options=MetaOptions(**options),
        )

    def extract(self, lr: torch.Tensor) -> torch.Tensor:
        """Return the features (B, features, *spatial) of an intensity-shifted image (B, in_channels, *spatial)."""
        x = self.head(lr)
        return self.body(x) + x


PRESETS = {
    "meta-srgan": Preset(
        MetaSRGANGenerator,
        {},
        561_926,
        published="0.561 M (Tan et al. 2020, table 1)",
        remark="the table's figure is truncated; that there are 5 blocks follows from it and from the author's program",
    ),
}
