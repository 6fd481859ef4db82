"""Discriminators, which give one score per image, high for real HR images (SRGAN, MIASSR, MS-GAN, Meta-SRGAN)."""

from collections.abc import Sequence
from typing import Union

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import activation, batch_norm, check_sizes, convolution
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec

_HALVINGS = 4  # the number of convolutions of stride 2 in each discriminator


def _spec(spatial_dims: int, in_channels: int, features: int, paper: str, **other: object) -> NetworkSpec:
    return NetworkSpec(
        family=Family.DISCRIMINATOR,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=1,
        bytes_per_voxel=2 * 4 * 2 * features,  # the first two maps and their copies reordered by oneDNN
        paper=paper,
        **other,  # type: ignore[arg-type]
    )


class _SizedDiscriminator(nn.Module):
    """3x3 convolutions of stride 1 and 2 in turn and two linear layers, with LeakyReLU 0.2 between all of them.

    Args:
        widths: The numbers of channels after each of the eight convolutions.
        hidden: The number of features between the linear layers.
        image_size: The largest sides of the images; every 16 voxels become one, rounded up.
        bias: Whether the convolutions have a bias.
        normalised: Whether a batch norm follows every convolution.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        widths: Sequence[int],
        hidden: int,
        image_size: Sequence[int],
        bias: bool,
        normalised: bool,
    ) -> None:
        super().__init__()
        if len(image_size) != spatial_dims or min(*image_size, hidden) < 1:
            raise MedsrError(
                f"a discriminator needs {spatial_dims} sides of the images and hidden features of at least 1, got "
                f"{list(image_size)} and {hidden}"
            )
        step = 2**_HALVINGS
        cells = [-(-side // step) for side in image_size]
        self.sides = [(step * (n - 1) + 1, step * n) for n in cells]
        stages: list[nn.Module] = []
        channels = in_channels
        for i, width in enumerate(widths):
            layers = [convolution(spatial_dims, channels, width, stride=1 + i % 2, bias=bias)]
            if normalised:
                layers.append(batch_norm(spatial_dims, width))
            stages.append(nn.Sequential(*layers, activation("leaky_relu")))
            channels = width
        for n in cells:
            channels *= n
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(nn.Linear(channels, hidden), activation("leaky_relu"), nn.Linear(hidden, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Score images.

        Args:
            image: The images, (B, in_channels, *spatial), of the size that the network was built for.

        Returns:
            The scores, (B, 1), any real numbers.

        Raises:
            MedsrError: If the images have another size.
        """
        for axis, (least, most) in enumerate(self.sides):
            side = image.shape[2 + axis]
            if side < least or side > most:
                raise MedsrError(
                    f"this discriminator takes images of {least} to {most} voxels along axis {axis}, got {side}; "
                    "crop them or build it for their size"
                )
        return self.classifier(self.features(image).flatten(1))

    def input_sizes(self) -> tuple[int, int]:
        """Return the smallest and largest side over all axes; the limits of each axis are in `sides`."""
        return min(least for least, _ in self.sides), max(most for _, most in self.sides)


class SRGANDiscriminator(_SizedDiscriminator):
    """The discriminator of SRGAN with which the dissertation trained MIASSR and its baselines (Zhu 2022, chapter 4).

    Eight convolutions without bias have 1, 1, 2, 2, 4, 4, 8 and 8 times `features` channels, every second one with
    stride 2; two linear layers follow. Unlike in Ledig et al. 2017 (section 2.1.1) there is no sigmoid, and batch norm,
    if used, also follows the first convolution. State dicts of the dissertation's program fit without renaming.

    Args:
        in_channels: The number of channels of the images.
        features: The number of channels of the first convolution.
        patch_size: The side of the images along every axis; smaller sides fit down to, but not including, the next
            lower multiple of 16.
        batch_norm: Whether a batch norm follows every convolution. Leave it off for WGAN-GP, whose gradient penalty is
            defined for single images.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 4, "patch_size": 32}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        features: int = 64,
        patch_size: int = 96,
        batch_norm: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        check_sizes("SRGANDiscriminator", spatial_dims, in_channels, 1, features=features)
        widths = [features * 2 ** (i // 2) for i in range(2 * _HALVINGS)]
        sides = [patch_size] * spatial_dims
        super().__init__(spatial_dims, in_channels, widths, 16 * features, sides, bias=False, normalised=batch_norm)
        paper = "Ledig et al. 2017, as modified by Zhu 2022, sections 4.2.3 and 4.3.3"
        deviations = "one convolution of stride 1 and one of stride 2 four times; the dissertation's text has seven"
        self.spec = _spec(
            spatial_dims, in_channels, features, paper, input_sizes=self.input_sizes(), deviations=deviations
        )


class MSGANDiscriminator(_SizedDiscriminator):
    """The WGAN-GP discriminator of MS-GAN (Zhu 2022, section 3.2.4, figure 3.4).

    There are four blocks of two convolutions: the first keeps the size and the channels, the second, of stride 2,
    halves the size and doubles the channels. Two linear layers compute the score, without a sigmoid. (Table 3.4 of the
    dissertation says "the same as SRGAN", where the first convolution of a block doubles the channels: that is
    `SRGANDiscriminator`.)

    Args:
        in_channels: The number of channels of the images.
        features: The number of channels of the first convolution.
        hidden: The number of features between the linear layers.
        image_size: The sides of the images, one number or one per axis; smaller sides fit down to, but not including,
            the next lower multiple of 16.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 4, "hidden": 16, "image_size": 32}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        features: int = 64,
        hidden: int = 1024,
        image_size: Union[int, Sequence[int]] = 120,
        spatial_dims: int = 2,
    ) -> None:
        check_sizes("MSGANDiscriminator", spatial_dims, in_channels, 1, features=features)
        widths = [features * 2 ** ((i + 1) // 2) for i in range(2 * _HALVINGS)]
        sides = [image_size] * spatial_dims if isinstance(image_size, int) else list(image_size)
        super().__init__(spatial_dims, in_channels, widths, hidden, sides, bias=True, normalised=False)
        deviations = (
            "chosen here, because no program is public: 3x3 kernels with bias, 64 channels at first as in SRGAN, 1024 "
            "hidden features, LeakyReLU 0.2, and no batch norm as WGAN-GP requires"
        )
        self.spec = _spec(
            spatial_dims,
            in_channels,
            features,
            "Zhu 2022, section 3.2.4",
            input_sizes=self.input_sizes(),
            deviations=deviations,
        )


class MetaSRGANDiscriminator(nn.Module):
    """The fully convolutional discriminator of Meta-SRGAN (Tan et al. 2020, figure 5).

    Eight convolutions, every second one of stride 2, have LeakyReLU 0.2 and, except for the first, batch norm. The mean
    over the image and two linear layers (as 1x1 convolutions) follow. Images may have any size.

    Args:
        in_channels: The number of channels of the images.
        features: The number of channels of the first convolution; it doubles three times.
        sigmoid: Whether scores are mapped to (0, 1), as published. Losses that take logits need False.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"features": 4}  # a small one, for trials and tests

    def __init__(self, in_channels: int = 1, features: int = 64, sigmoid: bool = True, spatial_dims: int = 2) -> None:
        super().__init__()
        check_sizes("MetaSRGANDiscriminator", spatial_dims, in_channels, 1, features=features)
        layers: list[nn.Module] = []
        channels = in_channels
        for i in range(2 * _HALVINGS):
            width = features * 2 ** (i // 2)
            layers.append(convolution(spatial_dims, channels, width, stride=1 + i % 2))
            if i > 0:
                layers.append(batch_norm(spatial_dims, width))
            layers.append(activation("leaky_relu"))
            channels = width
        layers.append(nn.AdaptiveAvgPool2d(1) if spatial_dims == 2 else nn.AdaptiveAvgPool3d(1))
        layers += [convolution(spatial_dims, channels, 2 * channels, 1), activation("leaky_relu")]
        layers.append(convolution(spatial_dims, 2 * channels, 1, 1))
        self.net = nn.Sequential(*layers)
        self.sigmoid = sigmoid
        self.spec = _spec(spatial_dims, in_channels, features, "Tan et al. 2020, figure 5, and its authors' program")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Score images.

        Args:
            image: The image, (B, in_channels, *spatial), of any size.

        Returns:
            The scores, (B, 1), in (0, 1) with `sigmoid`, else any real numbers.
        """
        score = self.net(image).flatten(1)
        return torch.sigmoid(score) if self.sigmoid else score


_CHAPTER_4 = "the dissertation does not give the number; it was counted from the author's program"

PRESETS = {
    "srgan-discriminator-zhu2022": Preset(SRGANDiscriminator, {}, parameters=23_558_721, remark=_CHAPTER_4),
    "srgan-discriminator-bn-zhu2022": Preset(
        SRGANDiscriminator, {"batch_norm": True}, parameters=23_562_561, remark=_CHAPTER_4
    ),
    "msgan-discriminator": Preset(
        MSGANDiscriminator,
        {},
        parameters=76_477_825,
        remark="counted by hand for widths chosen here: the dissertation gives none, and no program is public",
    ),
    "meta-srgan-discriminator": Preset(
        MetaSRGANDiscriminator,
        {},
        parameters=5_214_273,
        remark="the paper does not give the number; it was counted from the authors' program",
    ),
}
