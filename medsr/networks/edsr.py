"""EDSR: a deep residual network without batch normalisation (Lim et al. 2017)."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn

from medsr.networks.blocks.residual import check_sizes, convolution, mean_shifts, residual_body
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, halo_of, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class EDSR(nn.Module):
    """A convolution, residual blocks under one skip connection, sub-pixel upsampling and a convolution.

    Lim et al. 2017, sections 3.2 and 3.3, figure 3. All convolutions are 3x3 (3x3x3) and zero-padded, with torch's
    default initialisation. Without its last part the network is the feature extractor of MIASSR (Zhu 2022, section
    4.2). State dicts of the authors' program and of the dissertation's program fit without renaming.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        blocks: The number of residual blocks (B).
        features: The number of channels (F).
        res_scale: The factor of each block's residual, for stability (section 3.3).
        act: The activation within the blocks, see `medsr.networks.blocks.residual.activation`.
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        blocks: int = 32,
        features: int = 256,
        res_scale: float = 0.1,
        act: str = "relu",
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes("EDSR", spatial_dims, in_channels, out_channels, blocks=blocks, features=features)
        self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out_channels)
        self.head = nn.Sequential(convolution(spatial_dims, in_channels, features))
        self.body = residual_body(spatial_dims, features, blocks, act, res_scale)
        self.tail = nn.Sequential(
            SubpixelUpsampler(spatial_dims, features, scale), convolution(spatial_dims, features, out_channels)
        )
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, 2 * blocks + 2), *subpixel_tail_radii(scale)]),
            bytes_per_voxel=subpixel_tail_bytes(spatial_dims, features, scale),
            paper="Lim et al. 2017, sections 3.2 and 3.3",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        x = self.head(self.sub_mean(lr))
        return self.add_mean(self.tail(self.body(x) + x))


_BASELINE = {"blocks": 16, "features": 64, "res_scale": 1.0}

PRESETS = {
    "edsr": Preset(
        EDSR,
        {},
        43_080_705,
        leaf_parameters=43_080_705,
        multiply_adds={"conv": 64.2230, "thop": 64.2230, "all": 64.2230},
        published="43.08 M, 64.22 G (Zhu 2022, table 5.1); 40.7 M at x2 (Tan 2020, table 1)",
        also=(({"scale": 2}, 40_720_385), ({"scale": 3}, 43_670_785)),
    ),
    "edsr-baseline": Preset(EDSR, _BASELINE, 1_515_265, published="1.5 M (Lim et al. 2017, table 1, three channels)"),
    "edsr-lite-zhu2022": Preset(
        EDSR,
        {**_BASELINE, "act": "leaky_relu"},
        1_515_265,
        leaf_parameters=1_515_265,
        multiply_adds={"conv": 2.5134, "thop": 2.5134, "all": 2.5134},
        published="1.52 M, 2.51 G (Zhu 2022, table 5.1)",
    ),
}
