"""SRResNet, the generator of SRGAN (Ledig et al. 2017), and MSRResNet, its variant without batch normalisation."""

from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import (
    NormalisedBlock,
    ResidualBlock,
    batch_norm,
    check_sizes,
    convolution,
    draw_he_normal,
    mean_shifts,
)
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, halo_of, subpixel_tail_bytes, subpixel_tail_radii
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class SRResNet(nn.Module):
    """Residual blocks with batch norm under one skip connection, and sub-pixel stages.

    "ledig2017" (section 2.1.1, figure 4) has 9x9 convolutions at both ends, a PReLU with one slope after the first
    convolution, in every block and after every shuffle, and batch norm after the convolution that closes the body.
    "zhu2022" is the network of the dissertation's chapter 4 (table 4.1): 3x3 convolutions at both ends, no activation
    after the first, no batch norm after the body but one after every shuffle instead of the PReLU, and a single PReLU
    that all blocks share. The weights have torch's default initialisation; neither source says otherwise.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        blocks: The number of residual blocks.
        features: The number of channels.
        definition: The definition of the network, "ledig2017" or "zhu2022".
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
        blocks: int = 16,
        features: int = 64,
        definition: str = "ledig2017",
        mean: Union[float, Sequence[float]] = 0.0,
        std: Union[float, Sequence[float]] = 1.0,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes("SRResNet", spatial_dims, in_channels, out_channels, blocks=blocks, features=features)
        if definition not in ("ledig2017", "zhu2022"):
            raise MedsrError(f"SRResNet has the definitions ledig2017 and zhu2022, got {definition!r}")
        ledig = definition == "ledig2017"
        width, ends, shared = features, 9 if ledig else 3, nn.PReLU()

        def block() -> nn.Module:
            return NormalisedBlock(spatial_dims, width, nn.PReLU() if ledig else shared)

        def after_shuffle() -> nn.Module:
            return nn.PReLU() if ledig else batch_norm(spatial_dims, width)

        self.sub_mean, self.add_mean = mean_shifts(spatial_dims, in_channels, mean, std, out_channels)
        head, body = [convolution(spatial_dims, in_channels, width, ends)], [block() for _ in range(blocks)]
        body.append(convolution(spatial_dims, width, width))
        if ledig:
            head.append(nn.PReLU())
            body.append(batch_norm(spatial_dims, width))
        self.head = nn.Sequential(*head)
        self.body = nn.Sequential(*body)
        self.tail = nn.Sequential(
            SubpixelUpsampler(spatial_dims, width, scale, after_shuffle),
            convolution(spatial_dims, width, out_channels, ends),
        )
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, ends // 2 + 2 * blocks + 1), *subpixel_tail_radii(scale, after=ends // 2)]),
            # torch may unfold the input of the first convolution, which matters for 9x9x9 filters
            bytes_per_voxel=4 * in_channels * ends**spatial_dims + subpixel_tail_bytes(spatial_dims, width, scale),
            paper="Ledig et al. 2017, section 2.1.1",
            deviations="" if ledig else "the dissertation's ends, batch norms and shared PReLU (Zhu 2022, chapter 4)",
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


class MSRResNet(nn.Module):
    """SRResNet without batch norm whose output is added to the interpolated image, as in the program BasicSR.

    It has plain residual blocks with ReLU, sub-pixel stages with LeakyReLU (slope 0.1) and one more convolution at the
    SR size. The bilinear interpolation of the image is the only skip connection besides those of the blocks. The
    weights are drawn from 0.1 times He's normal distribution, and the biases are zero.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR image, the first ones of the LR image; all by default.
        scale: The scale, a power of two or 3.
        blocks: The number of residual blocks.
        features: The number of channels.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 8, "blocks": 2}  # a small one, for trials and tests
    PUBLISHED_KEYS = (
        (r"^body\.(\d+)\.conv1\.", r"body.\1.body.0."),
        (r"^body\.(\d+)\.conv2\.", r"body.\1.body.2."),
        (r"^upconv1\.", "upsample.0."),
        (r"^upconv2\.", "upsample.3."),
    )

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
        self.out_channels = in_channels if out_channels is None else out_channels
        check_sizes("MSRResNet", spatial_dims, in_channels, self.out_channels, blocks=blocks, features=features)
        self.factor = [float(scale)] * spatial_dims
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.conv_first = convolution(spatial_dims, in_channels, features)
        self.body = nn.Sequential(*[ResidualBlock(spatial_dims, features) for _ in range(blocks)])
        self.upsample = SubpixelUpsampler(spatial_dims, features, scale, lambda: nn.LeakyReLU(0.1, inplace=True))
        self.conv_hr = convolution(spatial_dims, features, features)
        self.conv_last = convolution(spatial_dims, features, self.out_channels)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        draw_he_normal(self, 0.1)
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=self.out_channels,
            scales=(scale,) * spatial_dims,
            halo=halo_of([(1, 2 * blocks + 1), *subpixel_tail_radii(scale, after=2)]),
            bytes_per_voxel=subpixel_tail_bytes(spatial_dims, features, scale),
            paper="MSRResNet of BasicSR (Wang et al. 2018), after Ledig et al. 2017",
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        x = self.upsample(self.body(self.act(self.conv_first(lr))))
        base = F.interpolate(
            lr[:, : self.out_channels], scale_factor=self.factor, mode=self.interpolation, align_corners=False
        )
        return self.conv_last(self.act(self.conv_hr(x))) + base


PRESETS = {
    "srresnet": Preset(SRResNet, {}, 1_528_724),
    "srgan-tan2020": Preset(
        SRResNet,
        {"scale": 2, "blocks": 5},
        565_768,
        published="0.565 M (Tan et al. 2020, table 1, SRGAN)",
        remark="the table's figure is truncated; that there are 5 blocks follows from it",
    ),
    "srresnet-zhu2022": Preset(
        SRResNet,
        {"definition": "zhu2022"},
        1_519_618,
        multiply_adds={"all": 2.5134},
        published="4.5 M for x2, x3 and x4 together (Zhu 2022, table 4.1, SRGAN)",
        remark="the three have 4,447,814 parameters, and 4,460,614 with the statistics of their batch norms",
        also=(({"scale": 2}, 1_371_778), ({"scale": 3}, 1_556_418)),
    ),
    "msrresnet": Preset(MSRResNet, {}, 1_515_265),
}
