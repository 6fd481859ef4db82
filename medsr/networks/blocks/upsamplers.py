"""From features on the LR grid to an image on the SR grid."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import convolution


class PixelShuffle(nn.Module):
    """Rearrange channels into voxels (Shi et al. 2016, equation 4), in 2D as torch does it, and in 3D alike.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        scale: r; the input has r^spatial_dims times the channels of the output.
    """

    def __init__(self, spatial_dims: int, scale: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C r^d, *spatial) to (B, C, *spatial times r)."""
        r = self.scale
        if self.spatial_dims == 2:
            return torch.nn.functional.pixel_shuffle(x, r)
        b, _, d, h, w = x.shape
        c = x.shape[1] // (r * r * r)  # TorchScript makes a float of a power
        x = x.reshape(b, c, r, r, r, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, c, d * r, h * r, w * r)


class PixelUnshuffle(nn.Module):
    """Rearrange voxels into channels, the inverse of `PixelShuffle`.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        scale: r; the sizes of the input are its multiples.
    """

    def __init__(self, spatial_dims: int, scale: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial times r) to (B, C r^d, *spatial)."""
        r = self.scale
        if self.spatial_dims == 2:
            return torch.nn.functional.pixel_unshuffle(x, r)
        b, c, d, h, w = x.shape
        x = x.reshape(b, c, d // r, r, h // r, r, w // r, r).permute(0, 1, 3, 5, 7, 2, 4, 6)
        return x.reshape(b, c * r * r * r, d // r, h // r, w // r)


def quickest_layout(x: torch.Tensor) -> torch.Tensor:
    """Lay out the features in memory as the layers that enlarge them are quickest on a CPU, in 2D.

    With channels last, shuffles, transposed convolutions and those to few channels are up to 1.7 times faster, and
    their backward passes as much slower.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return x
    return x.contiguous() if torch.is_grad_enabled() else x.contiguous(memory_format=torch.channels_last)


class SubpixelUpsampler(nn.Sequential):
    """Convolution and shuffle, for every factor 2 or once for 3 (Ledig et al. 2017, Lim et al. 2017).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels of the input and of the output.
        scale: The scale, a power of two or 3.
        after: makes the layer that follows every shuffle; nothing follows by default.

    Raises:
        MedsrError: If the scale is another number.
    """

    def __init__(
        self, spatial_dims: int, features: int, scale: int, after: Optional[Callable[[], nn.Module]] = None
    ) -> None:
        layers: list[nn.Module] = []
        for factor in subpixel_stages(scale):
            layers.append(convolution(spatial_dims, features, features * factor**spatial_dims))
            layers.append(PixelShuffle(spatial_dims, factor))
            if after is not None:
                layers.append(after())
        super().__init__(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, features, *spatial) to (B, features, *spatial times the scale)."""
        x = quickest_layout(x)
        for layer in self:
            x = layer(x)
        return x


def subpixel_stages(scale: int) -> list[int]:
    """The factors of the stages: 2, 2, ... for a power of two; 3 for 3.

    Raises:
        MedsrError: If the scale is another number.
    """
    if scale == 3:
        return [3]
    if scale < 2 or scale & (scale - 1):
        raise MedsrError(f"a sub-pixel upsampler enlarges by 3 or by a power of two, got {scale}")
    return [2] * (scale.bit_length() - 1)


def subpixel_tail_radii(scale: int, after: int = 1) -> list[tuple[int, int]]:
    """(resolution, radius) of the stages and of the output convolution of radius `after`, input side first."""
    radii, resolution = [], 1
    for factor in subpixel_stages(scale):
        radii.append((resolution, 1))
        resolution *= factor
    return [*radii, (resolution, after)]


def subpixel_tail_bytes(spatial_dims: int, features: int, scale: int) -> int:
    """Peak memory of a float32 forward pass that ends in sub-pixel stages of so many features, per LR voxel.

    Three feature maps at the SR size, which are what a layer reads and writes and oneDNN's reordered copy, and four at
    the LR size, which the skip connections and callers still hold (measured: 43 to 52 maps of LR size at x4 in 2D).
    """
    return 4 * features * (3 * scale**spatial_dims + 4)


def halo_of(radii: Sequence[tuple[int, int]]) -> int:
    """LR voxels that the SR voxels of one LR voxel depend on, to either side.

    Args:
        radii: (resolution, radius) of every layer in the order of computation; resolution is the size of its grid
            relative to the LR grid, radius how many voxels of that grid it looks to either side.
    """
    at = max(resolution for resolution, _ in radii)
    low, high = 0, at - 1
    for resolution, radius in reversed(list(radii)):
        low, high = low * resolution // at - radius, high * resolution // at + radius
        at = resolution
    return max(-(low // at), high // at)
