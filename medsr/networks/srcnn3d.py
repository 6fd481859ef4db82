"""SRCNN3D: three-layer 3D CNN on the interpolated image (Pham et al. 2017 ISBI, the baseline of hal-01635455v1)."""

from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F

from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class SRCNN3D(nn.Module):
    """Filters 9-1-5 with 64 and 32 features and no skip connection, after SRCNN (Dong et al. 2016).

    The published network uses valid convolutions on 33^3 patches and pads the test volume by its edge values;
    here the edge padding (6 voxels) is part of the forward pass, so sizes are kept. Weights are drawn from
    N(0, 0.001) as published; biases are zero.

    Args:
        in_channels: channels of the interpolated image.
        out_channels: channels restored.
        features: filters of the first and second layer.
    """

    PUBLISHED_KEYS = ((r"^c(\d)\.", r"conv\1."),)
    SMALL = {"features": (4, 3)}  # a quick one, for trials and tests

    def __init__(self, in_channels: int = 1, out_channels: int = 1, features: tuple[int, int] = (64, 32)) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, features[0], 9)
        self.conv2 = nn.Conv3d(features[0], features[1], 1)
        self.conv3 = nn.Conv3d(features[1], out_channels, 5)
        for convolution in (self.conv1, self.conv2, self.conv3):
            nn.init.normal_(convolution.weight, std=0.001)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        self.spec = NetworkSpec(
            family=Family.RESTORE,
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            halo=6,
            interpolation="spline3",
            bytes_per_voxel=4 * (2 * features[0] + 2 * features[1]),
            paper="Pham et al. 2017, section 3.2 (SRCNN3D)",
            deviations="edge padding inside the forward pass instead of valid convolutions",
        )

    def forward(self, image: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Restore an interpolated image.

        Args:
            image: (B, in_channels, X, Y, Z) on the HR grid, any size.
            scale: ignored.

        Returns:
            (B, out_channels, X, Y, Z).
        """
        padded = F.pad(image, (6, 6, 6, 6, 6, 6), mode="replicate")
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(padded)))))


PRESETS = {"srcnn3d": Preset(SRCNN3D, {}, 52_801, multiply_adds_per_voxel=52_704)}
