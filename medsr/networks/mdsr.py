"""MDSR: one residual network for several scales (Lim et al. 2017)."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import ResidualBlock, check_sizes, convolution, mean_shifts, residual_body
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, halo_of, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class MDSR(nn.Module):
    """Residual blocks that all scales share, between layers that each scale has for itself.

    Lim et al. 2017, section 3.4, figure 5: one convolution, two residual blocks of 5x5 convolutions per scale, the
    shared blocks under a skip connection, a sub-pixel upsampler per scale, and one convolution. The dissertation ran a
    variant, `own_ends`, with one plain 3x3 convolution per scale at the beginning and one per scale at the end (Zhu
    2022, table 4.1). The weights have torch's default initialisation.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scales: The scales that the network is built for, powers of two or 3.
        scale: The scale that `forward` uses by default, one of `scales`.
        blocks: The number of shared residual blocks.
        features: The number of channels.
        own_ends: Whether to build the dissertation's variant.
        act: The activation within the blocks, see `medsr.networks.blocks.residual.activation`.
        res_scale: The factor of each block's residual; the paper uses none here (table 1).
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 6, "blocks": 1}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        (r"^input_layer\.", None),  # built by the dissertation's program and never used
        # The dissertation's program names the ends by their scale; the authors' program and ours number them.
        (r"^head_2\.", "pre_process.0."),
        (r"^head_3\.", "pre_process.1."),
        (r"^head_4\.", "pre_process.2."),
        (r"^tail_2\.", "upsample.0."),
        (r"^tail_3\.", "upsample.1."),
        (r"^tail_4\.", "upsample.2."),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scales: Sequence[int] = (2, 3, 4),
        scale: int = 4,
        blocks: int = 80,
        features: int = 64,
        own_ends: bool = False,
        act: str = "relu",
        res_scale: float = 1.0,
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes("MDSR", spatial_dims, in_channels, out_channels, blocks=blocks, features=features)
        if scale not in scales or len(set(scales)) < len(scales):
            raise MedsrError(
                f"MDSR uses one of its scales, which must be distinct; got scale {scale} and scales {list(scales)}"
            )
        self.scales = [int(s) for s in scales]
        self.scale = scale
        self.spatial_dims = spatial_dims

        def block(kernel_size: int) -> nn.Module:
            return ResidualBlock(spatial_dims, features, act, res_scale, kernel_size)

        first = [convolution(spatial_dims, in_channels, features) for _ in (scales if own_ends else [scale])]
        last = [convolution(spatial_dims, features, out_channels) for _ in first]
        upsamplers = [SubpixelUpsampler(spatial_dims, features, s) for s in self.scales]
        self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out_channels)
        self.body = residual_body(spatial_dims, features, blocks, act, res_scale)
        if own_ends:
            self.head, self.tail = nn.Sequential(), nn.Sequential()
            self.pre_process = nn.ModuleList(nn.Sequential(layer) for layer in first)
            self.upsample = nn.ModuleList(nn.Sequential(*pair) for pair in zip(upsamplers, last, strict=True))
        else:
            self.head, self.tail = nn.Sequential(*first), nn.Sequential(*last)
            self.pre_process = nn.ModuleList(nn.Sequential(block(5), block(5)) for _ in scales)
            self.upsample = nn.ModuleList(upsamplers)
        ahead = 1 if own_ends else 1 + 2 * 2 * 2
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale,) * spatial_dims,
            other_scales=tuple((s,) * spatial_dims for s in self.scales if s != scale),
            halo=max(halo_of([(1, ahead + 2 * blocks + 1), *subpixel_tail_radii(s)]) for s in self.scales),
            bytes_per_voxel=max(subpixel_tail_bytes(spatial_dims, features, s) for s in self.scales),
            paper="Lim et al. 2017, section 3.4",
            deviations="own ends per scale instead of 5x5 blocks and shared ends (Zhu 2022)" if own_ends else "",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: One of the network's scales for each axis; that of the constructor by default.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).

        Raises:
            MedsrError: If the network was not built for the scale.
        """
        branch = self.branch(scale)
        x = self.head(self.sub_mean(lr))
        # TorchScript cannot index a module list by a variable, but it can iterate over it.
        for number, layers in enumerate(self.pre_process):
            if number == branch:
                x = layers(x)
        x = self.body(x) + x
        for number, layers in enumerate(self.upsample):
            if number == branch:
                x = layers(x)
        return self.add_mean(self.tail(x))

    def branch(self, scale: Optional[list[float]]) -> int:
        """Return the index of the layers that belong to a scale.

        Raises:
            MedsrError: If the network was not built for the scale.
        """
        if scale is None:
            return self.scales.index(self.scale)
        for number, known in enumerate(self.scales):
            if scale == [float(known)] * self.spatial_dims:
                return number
        raise MedsrError(f"this MDSR was built for one scale out of {self.scales} on all axes, got {scale}")


PRESETS = {
    "mdsr": Preset(
        MDSR,
        {},
        7_951_681,
        published="8.0 M (Lim et al. 2017, table 1, three channels)",
        remark="the authors' program counts 7,954,011 with three channels, 24 of them its constant intensity shifts",
        also=(({"in_channels": 3}, 7_953_987),),
    ),
    "mdsr-zhu2022": Preset(
        MDSR,
        {"own_ends": True},
        6_725_187,
        left_out=640,
        multiply_adds={"all": 8.5532},
        published="6.7 M (Zhu 2022, table 4.1)",
        remark="the program builds a first convolution of 640 parameters that it never uses and that is left out here",
    ),
}
