"""LD: a detector of the lesion, so that super-resolution can be trained on the lesion alone (Zhu 2022, chapter 3)."""

from collections.abc import Sequence
from math import floor, isfinite

import torch
from torch import nn
from torch.nn import functional as F

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import batch_norm, convolution
from medsr.networks.preset import Preset
from medsr.networks.spec import Family, NetworkSpec


class ResidualBlock(nn.Module):
    """Two times a convolution, a batch norm and a ReLU, plus the input (equation 3.3).

    If the block has more channels than its input, the input is padded with zero channels (He et al. 2016, option A) or
    passes a 1x1 convolution (`projection`).
    """

    def __init__(self, spatial_dims: int, channels: int, features: int, projection: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(spatial_dims, channels, features),
            batch_norm(spatial_dims, features),
            nn.ReLU(inplace=True),
            convolution(spatial_dims, features, features),
            batch_norm(spatial_dims, features),
            nn.ReLU(inplace=True),
        )
        projected = projection and channels != features
        self.shortcut = convolution(spatial_dims, channels, features, 1) if projected else nn.Identity()
        self.padding = [0, 0] * spatial_dims + [0, features - channels]
        self.padded = channels != features and not projected

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, *spatial) to (B, features, *spatial)."""
        shortcut = F.pad(x, self.padding) if self.padded else self.shortcut(x)
        return shortcut + self.body(x)


class LesionDetector(nn.Module):
    """A resizing head, an encoder of max-pooled residual levels, and linear layers (Zhu 2022, section 3.2.2).

    The structure is that of figure 3.2. Every image is resized to `input_size`, so that one network trained on HR
    images also serves LR images. A level consists of two residual blocks and a max-pooling. The output is the centre of
    the lesion in fractions of the image: 0 is its first edge and 1 its last, so that the centre of voxel i of n is
    (i + 1/2) / n on the LR and the HR grid alike; see `lesion_box`.

    Args:
        in_channels: The number of channels of the image.
        input_size: The side to which every axis is resized, at least 2 to the power of the number of levels.
        features: The number of channels of each level; it must not decrease without `projection`.
        hidden: The numbers of features of the linear layers before the last.
        projection: Whether the shortcuts have 1x1 convolutions where the channels change. It is off by default, because
            the text mentions four convolutions per level and none in the shortcuts.
        spatial_dims: The number of spatial axes, 2 or 3.

    Raises:
        MedsrError: If the arguments do not describe a network.
    """

    SMALL = {"input_size": 16, "features": (4, 8), "hidden": (16, 8)}  # a small one, for trials and tests

    def __init__(
        self,
        in_channels: int = 1,
        input_size: int = 128,
        features: Sequence[int] = (32, 64, 128, 128, 128),
        hidden: Sequence[int] = (1024, 128),
        projection: bool = False,
        spatial_dims: int = 2,
    ) -> None:
        super().__init__()
        widths = [in_channels, *features]
        if spatial_dims not in (2, 3) or min(*widths, *hidden) < 1 or not features:
            raise MedsrError(
                "LesionDetector works in 2 or 3 dimensions with at least 1 channel in each of its levels, got "
                f"spatial_dims {spatial_dims}, in_channels {in_channels}, features {list(features)}, "
                f"hidden {list(hidden)}"
            )
        if sorted(widths) != widths and not projection:
            raise MedsrError(
                f"LesionDetector's channels must not fall from the image to the last level, got {widths}; or use "
                "projection=True"
            )
        side = input_size // 2 ** len(features)
        if side < 1:
            raise MedsrError(
                f"LesionDetector halves its input {len(features)} times, so input_size is at least "
                f"{2 ** len(features)}, got {input_size}"
            )
        self.input_size = [input_size] * spatial_dims
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        levels: list[nn.Module] = []
        for channels, width in zip(widths[:-1], features, strict=True):
            levels += [
                ResidualBlock(spatial_dims, channels, width, projection),
                ResidualBlock(spatial_dims, width, width, projection),
                nn.MaxPool2d(2) if spatial_dims == 2 else nn.MaxPool3d(2),
            ]
        self.body = nn.Sequential(*levels)
        sizes = [widths[-1] * side**spatial_dims, *hidden]
        tail: list[nn.Module] = []
        for given, size in zip(sizes[:-1], hidden, strict=True):
            tail += [nn.Linear(given, size), nn.ReLU(inplace=True)]
        self.tail = nn.Sequential(*tail, nn.Linear(sizes[-1], spatial_dims))
        self.spec = NetworkSpec(
            family=Family.DETECTOR,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=spatial_dims,
            bytes_per_voxel=6 * 4 * features[0],  # of an image of the input size; no image needs more
            paper="Zhu 2022, sections 3.2.2 and 3.3.3",
            deviations="chosen here, because no program is public: the input size, bilinear resizing, coordinates as "
            "fractions of the image, channels of zeros where a shortcut lacks some, no ReLU on the coordinates",
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Locate the lesion.

        Args:
            image: The image, (B, in_channels, *spatial), of any size.

        Returns:
            The centre of the lesion, (B, spatial_dims), in fractions of the image along its axes.
        """
        resized = F.interpolate(image, size=self.input_size, mode=self.mode, align_corners=False)
        return self.tail(self.body(resized).flatten(1))


def lesion_box(centre: Sequence[float], image_size: Sequence[int], roi_size: Sequence[int]) -> tuple[slice, ...]:
    """Return the region of interest around a detected centre, shifted to lie within the image.

    To crop an LR/HR pair, take the box on the LR grid and multiply its bounds by the scale for the HR image.

    Args:
        centre: The centre in fractions of the image along its axes, one row of a `LesionDetector`'s output.
        image_size: The size of the image in voxels.
        roi_size: The size of the region in voxels, at most that of the image.

    Returns:
        One slice per axis.

    Raises:
        MedsrError: If the region is larger than the image, the centre is not finite, or the numbers of axes differ.
    """
    centre = [float(fraction) for fraction in centre]
    if not len(centre) == len(image_size) == len(roi_size) or not all(map(isfinite, centre)):
        raise MedsrError(
            f"a box needs a finite centre, an image size and a region size per axis, got {centre}, {list(image_size)} "
            f"and {list(roi_size)}"
        )
    box = []
    for fraction, side, wanted in zip(centre, image_size, roi_size, strict=True):
        if not 1 <= wanted <= side:
            raise MedsrError(
                f"a region of {list(roi_size)} voxels is not within an image of {list(image_size)} voxels; choose a "
                "smaller region"
            )
        start = min(max(floor(fraction * side - wanted / 2 + 0.5), 0), side - wanted)
        box.append(slice(start, start + wanted))
    return tuple(box)


PRESETS = {
    "lesion-detector": Preset(
        LesionDetector,
        {},
        parameters=4_088_098,
        remark="counted by hand: the dissertation gives neither a number nor the resized side; 128 is chosen here",
        also=(
            ({"input_size": 160}, 5_267_746),
            ({"input_size": 192}, 6_709_538),
            ({"input_size": 240}, 8_413_474),
            ({"input_size": 256}, 10_379_554),
            ({"projection": True}, 4_088_098 + 10_496),
        ),
    ),
}
