"""RRDBNet, the generator of ESRGAN (Wang et al. 2018)."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.dense import DENSE_LAYERS, RRDB
from medsr.networks.blocks.residual import check_sizes, convolution, draw_he_normal, mean_shifts
from medsr.networks.blocks.upsamplers import (
    PixelUnshuffle,
    SubpixelUpsampler,
    halo_of,
    quickest_layout,
    subpixel_tail_bytes,
    subpixel_tail_radii,
)
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class RRDBNet(nn.Module):
    """Residual in residual dense blocks without batch norm under one skip connection, and upsampling.

    "wang2018" (section 3.1, figures 3 and 4) enlarges twice by nearest-neighbour interpolation and a convolution with
    LeakyReLU (slope 0.2), as in the authors' program. The weights of the dense blocks are drawn from 0.1 times He's
    normal distribution, with zero biases; all others have torch's default initialisation. The program is built for x4.
    For x2 and x1 it rearranges the LR image into 2x2 and 4x4 times the channels on a coarser grid. Here, images whose
    sizes are not multiples of 2 or 4 are padded with their last voxels, and the result is cropped.

    "zhu2022" is the network that the dissertation ran as ESRGAN-L1 (table 4.1): the last convolution of each dense
    block is 1x1, the tail is a sub-pixel convolution, all weights have torch's default initialisation, and intensities
    may be shifted.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale: 1, 2 or 4; for "zhu2022" a power of two or 3.
        features: The number of channels between the blocks.
        blocks: The number of residual in residual dense blocks.
        growth: The number of channels that each dense layer adds.
        definition: The definition of the network, "wang2018" or "zhu2022".
        mean: The mean of the training set, one number or one per channel; subtracted from the input and added to
            the output.
        std: The standard deviation of the training set, one number or one per channel.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 1, "growth": 4}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        # The authors' program names the layers that ours and the dissertation's number from zero.
        (r"^body\.(\d+)\.rdb(\d)\.conv5\.", lambda match: f"body.{match[1]}.body.{int(match[2]) - 1}.LFF."),
        (
            r"^body\.(\d+)\.rdb(\d)\.conv(\d)\.",
            lambda match: f"body.{match[1]}.body.{int(match[2]) - 1}.convs.{int(match[3]) - 1}.conv.0.",
        ),
        (r"^conv_up1\.", "tail.1."),
        (r"^conv_up2\.", "tail.4."),
        (r"^conv_hr\.", "tail.6."),
        (r"^conv_last\.", "tail.8."),
        (r"^head\.0\.", "conv_first."),
        (r"^body\.(\d+)\.body\.(\d+)\.body\.(\d+)\.body\.0\.", r"body.\1.body.\2.convs.\3.conv.0."),
        (r"^body\.(\d+)\.body\.(\d+)\.bottle_neck\.", r"body.\1.body.\2.LFF."),
        (r"^body\.\d+\.(weight|bias)$", r"conv_body.\1"),
    )

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: Optional[int] = None,
        scale: int = 4,
        features: int = 64,
        blocks: int = 23,
        growth: int = 32,
        definition: str = "wang2018",
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out = in_channels if out_channels is None else out_channels
        check_sizes("RRDBNet", spatial_dims, in_channels, out, features=features, blocks=blocks, growth=growth)
        if definition not in ("wang2018", "zhu2022"):
            raise MedsrError(f"RRDBNet has the definitions wang2018 and zhu2022, got {definition!r}")
        wang = definition == "wang2018"
        if wang and scale not in (1, 2, 4):
            raise MedsrError(f"RRDBNet enlarges by 1, 2 or 4, by 3 and 8 only as zhu2022; got {scale}")
        self.scale = scale
        self.step = 4 // scale if wang else 1
        fusion = 3 if wang else 1
        self.sub_mean: nn.Module = nn.Identity()  # neither the authors' program nor its state dicts have shifts
        self.add_mean: nn.Module = nn.Identity()
        if not wang or mean != 0.0 or std != 1.0:
            self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out)
        self.unshuffle = PixelUnshuffle(spatial_dims, self.step)
        self.conv_first = convolution(spatial_dims, in_channels * self.step**spatial_dims, features)
        self.body = nn.Sequential(*[RRDB(spatial_dims, features, growth, fusion) for _ in range(blocks)])
        self.conv_body = convolution(spatial_dims, features, features)
        if wang:
            draw_he_normal(self.body, 0.1)
            self.tail = _nearest_tail(spatial_dims, features, out)
            after = [(2, 1), (4, 3)]
            maps = 3 if spatial_dims == 2 else 5  # maps at four times the input size, held at one time (measured)
            peak = 4 * features * (maps * 4**spatial_dims + 4)
        else:
            self.tail = nn.Sequential(
                SubpixelUpsampler(spatial_dims, features, scale), convolution(spatial_dims, features, out)
            )
            after = subpixel_tail_radii(scale)
            peak = subpixel_tail_bytes(spatial_dims, features, scale)
        peak = max(peak, 3 * 4 * (features + DENSE_LAYERS * growth))  # per voxel of the coarser grid
        body = 2 + 3 * blocks * (DENSE_LAYERS + fusion // 2)
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out,
            scales=(scale,) * spatial_dims,
            size_multiple=self.step,
            halo=self.step * halo_of([(1, body), *after]),
            bytes_per_voxel=peak // self.step**spatial_dims,
            paper="Wang et al. 2018, section 3.1",
            deviations=""
            if wang
            else "1x1 convolutions close the dense blocks, sub-pixel upsampling (Zhu 2022, chapter 4)",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        image = self.sub_mean(lr)
        if self.step > 1:
            image = self.unshuffle(self.continued(image))
        x = self.conv_first(image)
        sr = self.add_mean(self.tail(quickest_layout(x + self.conv_body(self.body(x)))))
        if self.step > 1:
            for axis in range(2, lr.dim()):
                sr = sr.narrow(axis, 0, lr.shape[axis] * self.scale)
        return sr

    def continued(self, image: torch.Tensor) -> torch.Tensor:
        """Pad (B, C, *spatial) to the next multiples of `step` by repeating the last voxel of every axis."""
        missing: list[int] = []
        for axis in range(image.dim() - 1, 1, -1):
            missing += [0, -image.shape[axis] % self.step]
        return F.pad(image, missing, mode="replicate")


def _nearest_tail(spatial_dims: int, features: int, out_channels: int) -> nn.Sequential:
    """Return the authors' upsampling by 4 and the two convolutions after it."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        layers.append(convolution(spatial_dims, features, features))
        layers.append(nn.LeakyReLU(0.2, inplace=True))
    layers.append(convolution(spatial_dims, features, features))
    layers.append(nn.LeakyReLU(0.2, inplace=True))
    return nn.Sequential(*layers, convolution(spatial_dims, features, out_channels))


PRESETS = {
    "rrdbnet": Preset(
        RRDBNet,
        {},
        16_695_681,
        also=(({"in_channels": 3}, 16_697_987), ({"scale": 2}, 16_697_409)),
    ),
    "esrgan-zhu2022": Preset(
        RRDBNet,
        {"definition": "zhu2022"},
        10_097_345,
        multiply_adds={"all": 13.4841},
        published="30.2 M for x2, x3 and x4 together (Zhu 2022, table 4.1, ESRGAN-L1)",
        also=(({"scale": 2}, 9_949_633), ({"scale": 3}, 10_134_273)),
    ),
}
