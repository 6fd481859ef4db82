"""Upsamplers, which map features on the LR grid to the SR grid."""

from collections.abc import Callable, Sequence
from typing import Optional

import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.networks.blocks.residual import convolution


class PixelShuffle(nn.Module):
    """The rearrangement of channels into voxels (Shi et al. 2016, equation 4), in 2D as in torch, and likewise in 3D.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        scale: The scale r; the input has r^spatial_dims times the channels of the output.
    """

    def __init__(self, spatial_dims: int, scale: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C r^d, *spatial) to (B, C, *spatial times r)."""
        r = self.scale
        if self.spatial_dims == 2:
            return torch.nn.functional.pixel_shuffle(x, r)
        b, _, d, h, w = x.shape
        c = x.shape[1] // (r * r * r)  # TorchScript turns a power into a float
        x = x.reshape(b, c, r, r, r, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(b, c, d * r, h * r, w * r)


class PixelUnshuffle(nn.Module):
    """The rearrangement of voxels into channels, the inverse of `PixelShuffle`.

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        scale: The scale r; the sizes of the input must be multiples of it.
    """

    def __init__(self, spatial_dims: int, scale: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, *spatial times r) to (B, C r^d, *spatial)."""
        r = self.scale
        if self.spatial_dims == 2:
            return torch.nn.functional.pixel_unshuffle(x, r)
        b, c, d, h, w = x.shape
        x = x.reshape(b, c, d // r, r, h // r, r, w // r, r).permute(0, 1, 3, 5, 7, 2, 4, 6)
        return x.reshape(b, c * r * r * r, d // r, h // r, w // r)


def quickest_layout(x: torch.Tensor) -> torch.Tensor:
    """Return 2D features in the memory layout in which the upsampling layers are fastest on a CPU.

    With channels last, shuffles, transposed convolutions and convolutions to few channels are up to 1.7 times faster,
    but their backward passes are slower by the same factor.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return x
    return x.contiguous() if torch.is_grad_enabled() else x.contiguous(memory_format=torch.channels_last)


class SubpixelUpsampler(nn.Sequential):
    """A convolution and a shuffle for every factor 2, or one pair for 3 (Ledig et al. 2017, Lim et al. 2017).

    Args:
        spatial_dims: The number of spatial axes, 2 or 3.
        features: The number of channels of the input and of the output.
        scale: The scale, a power of two or 3.
        after: A function that makes the layer after every shuffle; there is none by default.

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
        """Map (B, features, *spatial) to (B, features, *spatial times the scale)."""
        x = quickest_layout(x)
        for layer in self:
            x = layer(x)
        return x


def subpixel_stages(scale: int) -> list[int]:
    """Return the factors of the stages: 2, 2, ... for a power of two, and 3 for 3.

    Raises:
        MedsrError: If the scale is another number.
    """
    if scale == 3:
        return [3]
    if scale < 2 or scale & (scale - 1):
        raise MedsrError(f"a sub-pixel upsampler enlarges by 3 or by a power of two, got {scale}")
    return [2] * (scale.bit_length() - 1)


def subpixel_tail_radii(scale: int, after: int = 1) -> list[tuple[int, int]]:
    """Return the (resolution, radius) of the stages and of an output convolution of radius `after`, in order."""
    radii, resolution = [], 1
    for factor in subpixel_stages(scale):
        radii.append((resolution, 1))
        resolution *= factor
    return [*radii, (resolution, after)]


def subpixel_tail_bytes(spatial_dims: int, features: int, scale: int) -> int:
    """Return the peak memory of a float32 forward pass that ends in sub-pixel stages, in bytes per LR voxel.

    These are three feature maps at the SR size (the input and output of a layer, and oneDNN's reordered copy) and four
    at the LR size, which the skip connections and callers still hold (measured: 43 to 52 maps of LR size at x4 in 2D).
    """
    return 4 * features * (3 * scale**spatial_dims + 4)


def halo_of(radii: Sequence[tuple[int, int]]) -> int:
    """Return the number of LR voxels to either side on which the SR voxels of one LR voxel depend.

    Args:
        radii: The (resolution, radius) of every layer in the order of computation. The resolution is the size of the
            layer's grid relative to the LR grid, the radius the number of voxels of that grid read to either side.
    """
    at = max(resolution for resolution, _ in radii)
    low, high = 0, at - 1
    for resolution, radius in reversed(list(radii)):
        low, high = low * resolution // at - radius, high * resolution // at + radius
        at = resolution
    return max(-(low // at), high // at)
