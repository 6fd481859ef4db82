"""SRCNN: three convolutions on the interpolated image, in 2D (Dong et al. 2016) and 3D (Pham et al. 2017)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import check_sizes
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class SRCNN(nn.Module):
    """Patch extraction, non-linear mapping and reconstruction: convolutions with ReLUs between, no skip connection.

    Dong et al. 2016, section 3.1, equations 1 to 3, on the bicubically interpolated image. The paper trains with
    unpadded convolutions (section 3.3). The authors' test program repeats the edge values before each convolution,
    which keeps the size; the same is done here. The weights have standard deviation 0.001, and the biases are zero.

    Args:
        in_channels: The number of channels of the interpolated image.
        out_channels: The number of channels to restore, the first ones of the image; all by default.
        features: The numbers of filters of the first two layers (n1, n2).
        kernel_sizes: The sizes of the filters (f1, f2, f3), odd; the paper also has (9, 3, 5) and (9, 5, 5).
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": (8, 6)}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        features: Sequence[int] = (64, 32),
        kernel_sizes: Sequence[int] = (9, 1, 5),
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        if len(features) != 2 or len(kernel_sizes) != 3 or any(size < 1 or size % 2 == 0 for size in kernel_sizes):
            raise MedsrError(
                "SRCNN needs the features of two layers and three odd kernel sizes, "
                f"got {list(features)} and {list(kernel_sizes)}"
            )
        check_sizes(type(self).__name__, spatial_dims, in_channels, out, features=min(features))
        layer = Conv[Conv.CONV, spatial_dims]
        self.conv1 = layer(in_channels, features[0], kernel_sizes[0])
        self.conv2 = layer(features[0], features[1], kernel_sizes[1])
        self.conv3 = layer(features[1], out, kernel_sizes[2])
        for convolution in (self.conv1, self.conv2, self.conv3):
            nn.init.normal_(convolution.weight, std=0.001)
            nn.init.zeros_(convolution.bias)
        self.padding = [size // 2 for size in kernel_sizes]  # before each layer
        self.spec = NetworkSpec(
            family=Family.RESTORE,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            halo=sum(size // 2 for size in kernel_sizes),
            interpolation="cubic",
            bytes_per_voxel=4 * (2 * features[0] + 2 * features[1]),
            paper="Dong et al. 2016, section 3",
        )

    def forward(self, image: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Restore an interpolated image.

        Args:
            image: The image, (B, in_channels, *spatial) on the HR grid, of any size.
            scale: Ignored.

        Returns:
            The restored image, (B, out_channels, *spatial).
        """
        x = F.relu(self.conv1(self.continued(image, self.padding[0])), inplace=True)
        x = F.relu(self.conv2(self.continued(x, self.padding[1])), inplace=True)
        return self.conv3(self.continued(x, self.padding[2]))

    def continued(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """Return the image with its edge values repeated `width` times on all sides."""
        return F.pad(x, [width] * (2 * x.dim() - 4), mode="replicate") if width > 0 else x


class SRCNN3D(SRCNN):
    """SRCNN in 3D on the spline-interpolated image (Pham et al. 2017 ISBI, the baseline of hal-01635455v1).

    The published network trains with unpadded convolutions on 33^3 patches and repeats the edge values of a test
    volume once, before the first layer; here this is part of the forward pass.

    Args:
        in_channels: The number of channels of the interpolated image.
        out_channels: The number of channels to restore, the first ones of the image; all by default.
        features: The numbers of filters of the first and the second layer.
    """

    PUBLISHED_KEYS = ((r"^c(\d)\.", r"conv\1."),)

    def __init__(
        self, in_channels: int = 1, out_channels: Optional[int] = None, features: Sequence[int] = (64, 32)
    ) -> None:
        super().__init__(in_channels, out_channels, features, spatial_dims=3)
        self.padding = [sum(self.padding), 0, 0]
        self.spec = replace(
            self.spec, interpolation="spline3", paper="Pham et al. 2017, section 3.2 (SRCNN3D)", deviations=""
        )


PRESETS = {
    "srcnn": Preset(
        SRCNN,
        {},
        8_129,
        published="8,032 (Dong et al. 2016, section 4.3.2)",
        remark="the paper does not count the 97 biases",
        also=(({"kernel_sizes": (9, 3, 5)}, 24_513), ({"kernel_sizes": (9, 5, 5)}, 57_281)),
    ),
    "srcnn3d": Preset(SRCNN3D, {}, 52_801, multiply_adds_per_voxel=52_704),
}
