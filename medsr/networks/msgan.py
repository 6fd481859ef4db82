"""Generators that also make the images of all smaller powers of two: MS-SRResNet and MS-GAN (Zhu 2022, chapter 3)."""

from collections.abc import Sequence
from functools import partial
from typing import Optional

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import NormalisedBlock, batch_norm, check_sizes, convolution
from medsr.networks.blocks.upsamplers import SubpixelUpsampler, halo_of, subpixel_stages, subpixel_tail_bytes
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec

_CHOICES = (
    "chosen here, because no program is public: 3x3 kernels everywhere, a skip connection over the blocks as in Ledig "
    "et al. 2017, ReLU after the first convolution and after every shuffle, torch's default initialisation"
)


class FeatureExtractor(nn.Module):
    """Residual blocks and a closing convolution with batch norm, plus the input (Zhu 2022, equations 3.3 and 3.4).

    Unlike those of Ledig et al., the blocks have a second activation, after the second batch norm and before the sum.
    """

    def __init__(self, spatial_dims: int, features: int, blocks: int) -> None:
        super().__init__()
        relu = nn.ReLU(inplace=True)
        self.body = nn.Sequential(
            *[NormalisedBlock(spatial_dims, features, relu, last=relu) for _ in range(blocks)],
            convolution(spatial_dims, features, features),
            batch_norm(spatial_dims, features),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, features, *spatial) to the same shape."""
        return self.body(x) + x


class _Progressive(nn.Module):
    """Stages that each double the size of the feature maps, and one convolution per stage that makes an image.

    Args:
        stages: The stages; the first one takes the image.
        images: The convolutions, one per stage.
    """

    def __init__(self, stages: Sequence[nn.Module], images: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.images = nn.ModuleList(images)

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image by the full scale; the smaller images are not made.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        x = lr
        for stage in self.stages:
            x = stage(x)
        return self.images[-1](x)

    def outputs(self, lr: torch.Tensor) -> list[torch.Tensor]:
        """Return the images of all stages, the smallest first, for the loss of equation 3.21.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.

        Returns:
            One image per stage, (B, out_channels, *spatial times 2, 4, ...).
        """
        made, x = [], lr
        for stage, image in zip(self.stages, self.images, strict=True):
            x = stage(x)
            made.append(image(x))
        return made


def _doublings(network: str, scale: int) -> int:
    """Return how many times the scale doubles the image.

    Raises:
        MedsrError: If the scale is not a power of two.
    """
    if scale == 3:
        raise MedsrError(f"{network} enlarges by a power of two, got 3")
    return len(subpixel_stages(scale))


class MSSRResNet(_Progressive):
    """SRResNet that also outputs the image of each intermediate stage (section 3.2.3, figure 3.3, top).

    One feature extractor works on the LR grid; a x2 sub-pixel stage follows for every factor 2 of the scale, each with
    a convolution that makes an image. `outputs` returns all images, `forward` the last one. `spec.deviations` lists the
    choices that the dissertation leaves open.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR images, the first ones of the LR image; all by default.
        scale: The scale, a power of two.
        blocks: The number of residual blocks.
        features: The number of channels.
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
        spatial_dims: int = 2,
    ) -> None:
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes("MS-SRResNet", spatial_dims, in_channels, out_channels, blocks=blocks, features=features)
        doublings, relu = _doublings("MS-SRResNet", scale), partial(nn.ReLU, inplace=True)
        stages = [SubpixelUpsampler(spatial_dims, features, 2, relu) for _ in range(doublings)]
        head = (convolution(spatial_dims, in_channels, features), relu())
        first = nn.Sequential(*head, FeatureExtractor(spatial_dims, features, blocks), stages[0])
        super().__init__(
            [first, *stages[1:]], [convolution(spatial_dims, features, out_channels) for _ in range(doublings)]
        )
        radii = [(1, 2 * blocks + 2), *((2**i, 1) for i in range(doublings)), (scale, 1)]
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale,) * spatial_dims,
            halo=halo_of(radii),
            bytes_per_voxel=subpixel_tail_bytes(spatial_dims, features, scale),
            paper="Zhu 2022, section 3.2.3 (MS-SRResNet)",
            deviations=_CHOICES,
        )


class MSGANGenerator(_Progressive):
    """The generator of MS-GAN: one SRResNet for every factor 2 (section 3.2.3, equation 3.13, figure 3.3, bottom).

    Each SRResNet has its own feature extractor and sub-pixel stage, and a convolution that makes an image. The next one
    continues with the enlarged feature maps, not with the image. `outputs` returns all images, `forward` the last one.
    `spec.deviations` lists the choices that the dissertation leaves open.

    Args:
        in_channels: The number of channels of the LR image.
        out_channels: The number of channels of the SR images, the first ones of the LR image; all by default.
        scale: The scale, a power of two.
        blocks: The number of residual blocks in each SRResNet.
        features: The number of channels.
        second_head: Whether the second and later SRResNets also begin with a convolution and a ReLU, as a literal
            reading of "two SRResNets" would have it; equation 3.13 has none.
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
        second_head: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes("MS-GAN", spatial_dims, in_channels, out_channels, blocks=blocks, features=features)
        doublings, relu = _doublings("MS-GAN", scale), partial(nn.ReLU, inplace=True)
        stages, radii = [], []
        for i in range(doublings):
            with_head = i == 0 or second_head
            head = [convolution(spatial_dims, features if i else in_channels, features), relu()] if with_head else []
            extractor = FeatureExtractor(spatial_dims, features, blocks)
            stages.append(nn.Sequential(*head, extractor, SubpixelUpsampler(spatial_dims, features, 2, relu)))
            radii.append((2**i, int(with_head) + 2 * blocks + 2))  # head, blocks, closing convolution, sub-pixel stage
        super().__init__(stages, [convolution(spatial_dims, features, out_channels) for _ in stages])
        self.spec = NetworkSpec(
            family=Family.FIXED,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            scales=(scale,) * spatial_dims,
            halo=halo_of([*radii, (scale, 1)]),
            bytes_per_voxel=subpixel_tail_bytes(spatial_dims, features, scale),
            paper="Zhu 2022, section 3.2.3 (MS-GAN)",
            deviations=_CHOICES,
        )


PRESETS = {
    "ms-srresnet": Preset(
        MSSRResNet, {}, 1_520_066, remark="no count is published; it follows from a literal reading of section 3.2.3"
    ),
    "ms-gan": Preset(
        MSGANGenerator,
        {},
        2_742_914,
        remark="no count is published; it follows from a literal reading of section 3.2.3",
        also=(({"second_head": True}, 2_779_842),),
    ),
}
