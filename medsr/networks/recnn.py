"""ReCNN: a residual 3D CNN on the spline-interpolated image (Pham et al. 2017, hal-01635455v1)."""

from math import sqrt
from typing import Optional

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class ReCNN(nn.Module):
    """A plain stack of convolutions that predicts the residual between the HR and the interpolated LR image.

    Section 2.2, equation 6, with the skip connection of section 3.5: `depth` zero-padded convolutions, with a ReLU
    after all but the last. Guidance images (section 5) are further input channels on the HR grid. Only the first
    `out_channels` channels, which are the interpolated LR image, are added to the residual.

    The weights are drawn from N(0, 2 / fan_in), and the biases are zero (section 3.4, He et al. 2015).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        in_channels: The number of channels of the interpolated LR image and the guidance images together.
        out_channels: The number of channels to restore, at most `in_channels`.
        depth: The number of convolutions (L), at least 2. The paper's networks have 10 and 20.
        features: The number of filters of each hidden layer (n).
        kernel_size: The size of the filters (f), odd.
        residual: Whether the interpolated image is added (False gives the paper's non-residual CNN of figure 4).

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    # Published programs number the convolutions alone; here they are in one sequence with the ReLUs.
    PUBLISHED_KEYS = ((r"^convs\.(\d+)\.", lambda match: f"layers.{2 * int(match[1])}."),)
    SMALL = {"features": 4}  # a small one, for trials and tests

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 1,
        depth: int = 10,
        features: int = 64,
        kernel_size: int = 3,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if depth < 2 or kernel_size % 2 == 0:
            raise MedsrError(f"ReCNN needs depth >= 2 and an odd kernel size, got {depth} and {kernel_size}")
        if not 1 <= out_channels <= in_channels:
            raise MedsrError(f"ReCNN restores some of its input channels, got {out_channels} out of {in_channels}")
        self.out_channels = out_channels
        self.residual = residual
        widths = [in_channels, *[features] * (depth - 1), out_channels]
        layers: list[nn.Module] = []
        for i in range(depth):
            convolution = Conv[Conv.CONV, spatial_dims](widths[i], widths[i + 1], kernel_size, padding=kernel_size // 2)
            nn.init.normal_(convolution.weight, std=sqrt(2 / (widths[i] * kernel_size**spatial_dims)))
            nn.init.zeros_(convolution.bias)
            layers += [convolution, nn.ReLU(inplace=True)] if i < depth - 1 else [convolution]
        self.layers = nn.Sequential(*layers)
        self.spec = NetworkSpec(
            family=Family.RESTORE,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            halo=depth * (kernel_size // 2),
            interpolation="spline3",
            bytes_per_voxel=3 * 4 * features,
            paper="Pham et al. 2017, sections 2.2 and 3",
        )

    def forward(self, image: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Restore an interpolated image.

        Args:
            image: The image, (B, in_channels, *spatial) on the HR grid, of any size, with intensities about [0, 1].
            scale: Ignored; one network serves all scales (section 4).

        Returns:
            The restored image, (B, out_channels, *spatial).
        """
        restored = self.layers(image)
        if self.residual:
            restored = restored + image[:, : self.out_channels]
        return restored


PRESETS = {
    "recnn-3l": Preset(ReCNN, {"depth": 3}, 114_177, multiply_adds_per_voxel=114_048),
    "recnn-7l": Preset(ReCNN, {"depth": 7}, 556_801, multiply_adds_per_voxel=556_416),
    "recnn-10l": Preset(ReCNN, {"depth": 10}, 888_769, multiply_adds_per_voxel=888_192),
    "recnn-10l-guided": Preset(ReCNN, {"depth": 10, "in_channels": 2}, 890_497),
    "recnn-10l-guided2": Preset(ReCNN, {"depth": 10, "in_channels": 3}, 892_225),
    "recnn-10l-5x5x5": Preset(ReCNN, {"depth": 10, "kernel_size": 5}, 4_112_577),
    "recnn-12l": Preset(ReCNN, {"depth": 12}, 1_110_081, multiply_adds_per_voxel=1_109_376),
    "recnn-20l": Preset(ReCNN, {"depth": 20}, 1_995_329, multiply_adds_per_voxel=1_994_112),
    "recnn-20l-guided": Preset(ReCNN, {"depth": 20, "in_channels": 2}, 1_997_057),
}
