"""RDN: the residual dense network (Zhang et al. 2018)."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.dense import RDNFeatures, rdn_bytes
from medsr.networks.blocks.residual import check_sizes, convolution, mean_shifts
from medsr.networks.blocks.upsamplers import (
    PixelShuffle,
    SubpixelUpsampler,
    halo_of,
    quickest_layout,
    subpixel_stages,
    subpixel_tail_bytes,
    subpixel_tail_radii,
)
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class RDN(RDNFeatures):
    """Two convolutions, residual dense blocks whose outputs are all fused, and a sub-pixel upsampler.

    Zhang et al. 2018, figure 2. The parts have the names of the paper: shallow feature extraction (SFENet, section
    3.1), residual dense blocks (RDBs) with local feature fusion (LFF, section 3.2), global feature fusion (GFF) and
    the skip connection from the first convolution (section 3.3), upsampling (UPNet, section 3.4). All convolutions
    are 3x3 (3x3x3), except the first of each fusion, and zero-padded, with torch's default initialisation. The
    defaults are configuration B of the authors' program.

    The paper's UPNet has G channels between its stages. The dissertation's network keeps G0 there, and a LeakyReLU
    follows every dense layer (Zhu 2022, tables 4.1 and 5.1). State dicts of both programs fit.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        features: The number of channels between the blocks (G0).
        blocks: The number of residual dense blocks (D).
        layers: The number of convolutions in each block (C).
        growth: The number of channels that each convolution adds (G).
        act: The activation within the blocks, see `medsr.networks.blocks.residual.activation`.
        upsampling: The upsampler, "zhang2018" or "zhu2022".
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2, "layers": 2, "growth": 4}  # a small one, for trials and tests
    PUBLISHED_KEYS = (  # of the dissertation's program; the authors' keys are the same as ours
        (r"^head\.0\.", "SFENet1."),
        (r"^F0\.", "SFENet2."),
        (r"^body\.(\d+)\.body\.(\d+)\.body\.0\.", r"RDBs.\1.convs.\2.conv.0."),
        (r"^body\.(\d+)\.bottle_neck\.", r"RDBs.\1.LFF."),
        (r"^bottleneck\.", "GFF."),
        (r"^tail\.", "UPNet."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 64,
        blocks: int = 16,
        layers: int = 8,
        growth: int = 64,
        act: str = "relu",
        upsampling: str = "zhang2018",
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        out = in_channels if out_channels is None else out_channels
        sizes = {"features": features, "blocks": blocks, "layers": layers, "growth": growth}
        check_sizes("RDN", spatial_dims, in_channels, out, **sizes)
        if upsampling not in ("zhang2018", "zhu2022"):
            raise MedsrError(f"RDN has the upsamplings zhang2018 and zhu2022, got {upsampling!r}")
        super().__init__(spatial_dims, in_channels, features, blocks, layers, growth, act)
        self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out)
        if upsampling == "zhang2018":
            self.UPNet = _upnet(spatial_dims, features, growth, out, scale)
        else:
            self.UPNet = nn.Sequential(
                SubpixelUpsampler(spatial_dims, features, scale), convolution(spatial_dims, features, out)
            )
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, 2 + blocks * layers + 1), *subpixel_tail_radii(scale)]),
            bytes_per_voxel=max(
                rdn_bytes(blocks, features), subpixel_tail_bytes(spatial_dims, max(features, growth), scale)
            ),
            paper="Zhang et al. 2018, section 3",
            deviations="" if upsampling == "zhang2018" else "the dissertation's upsampler (Zhu 2022, chapter 5)",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        return self.add_mean(self.UPNet(quickest_layout(self.features(self.sub_mean(lr)))))


def _upnet(spatial_dims: int, features: int, growth: int, out_channels: int, scale: int) -> nn.Sequential:
    """Return the paper's upsampler with its authors' numbering: stages with G channels and an output convolution."""
    layers: list[nn.Module] = []
    for factor in subpixel_stages(scale):
        layers.append(convolution(spatial_dims, features, growth * factor**spatial_dims))
        layers.append(PixelShuffle(spatial_dims, factor))
        features = growth
    return nn.Sequential(*layers, convolution(spatial_dims, features, out_channels))


_SHIFTS = "the authors' program trains the numbers that shift the intensities, 24 with three channels; here they are"

PRESETS = {
    "rdn-b": Preset(
        RDN,
        {},
        22_268_801,
        published="22.3 M",
        remark=f"{_SHIFTS} constants: 22,271,131 less 24",
        also=(({"in_channels": 3}, 22_271_107),),
    ),
    "rdn-a": Preset(
        RDN,
        {"blocks": 20, "layers": 6, "growth": 32},
        5_577_057,
        remark=f"{_SHIFTS} constants: 5,578,811 less 24",
        also=(({"in_channels": 3}, 5_578_787),),
    ),
    "rdn-zhu2022": Preset(
        RDN,
        {"blocks": 20, "layers": 6, "growth": 32, "act": "leaky_relu", "upsampling": "zhu2022"},
        5_761_921,
        leaf_parameters=5_761_921,
        multiply_adds={"conv": 7.9450, "thop": 7.9450, "all": 7.9450},
        published="5.76 M, 7.95 G (Zhu 2022, table 5.1)",
        also=(({"scale": 2}, 5_614_209), ({"scale": 3}, 5_798_849)),
    ),
}
