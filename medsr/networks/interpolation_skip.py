"""The bicubic interpolation of the image as a skip connection around a network of a fixed scale."""

from dataclasses import replace
from typing import Any, Optional

import numpy as np
import torch
from torch import nn

from medsr.errors import MedsrError
from medsr.interpolation import kernel_matrix
from medsr.networks.spec import Family

KERNEL = "cubic"
_REACH = 2  # LR voxels on either side of the one in which an HR voxel lies


class InterpolationSkip(nn.Module):
    """A network of one scale whose output is added to the interpolated image, so that it learns the difference.

    None of the published networks that it takes has this skip. An output of zeros is the bicubic interpolation by the
    grid rule (`medsr.interpolation`, boundary "nearest"), so that a network cannot be far from it where there is
    nothing to learn, as in a dark background. There are no further weights; those of the network are under `network.`.

    The sums are element by element, which autocast leaves in the precision of the image.

    Args:
        network: A network of the fixed family, of one scale that is the same for all axes.

    Raises:
        MedsrError: If it is of another family, has several scales, or its definition has an interpolated skip already.
    """

    taps: torch.Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        name = type(network).__name__
        spec: Any = network.spec
        if spec.family is not Family.FIXED or spec.other_scales or len(set(spec.scales)) != 1:
            raise MedsrError(f"an interpolation skip needs a network of one fixed scale, got {name}; leave it out")
        if hasattr(network, "interpolation"):
            raise MedsrError(f"{name} adds an interpolated image by its own definition; leave interpolation_skip out")
        self.network = network
        self.scale = int(spec.scales[0])
        self.spatial_dims = int(spec.spatial_dims)
        self.out_channels = int(spec.out_channels)
        positions = _REACH + (np.arange(self.scale) + 0.5) / self.scale - 0.5
        taps = kernel_matrix(positions, 2 * _REACH + 1, KERNEL)  # (HR voxels of one LR voxel, LR voxels around it)
        self.register_buffer("taps", torch.as_tensor(taps, dtype=torch.float32), persistent=False)
        self.spec = replace(
            spec,
            halo=None if spec.halo is None else max(spec.halo, _REACH),
            bytes_per_voxel=spec.bytes_per_voxel + 3 * 4 * self.out_channels * self.scale**self.spatial_dims,
            deviations="; ".join(filter(None, [spec.deviations, "the bicubic interpolation of the image is added"])),
        )

    def forward(self, lr: torch.Tensor, scale: Optional[list[float]] = None) -> torch.Tensor:
        """Enlarge an image.

        Args:
            lr: The LR image, (B, in_channels, *spatial), of any size.
            scale: Ignored; the scale is built in.

        Returns:
            The SR image, (B, out_channels, *spatial times the scale).
        """
        base = lr[:, : self.out_channels]
        for axis in range(2, 2 + self.spatial_dims):
            base = self.enlarged(base.transpose(axis, -1)).transpose(axis, -1)
        return self.network(lr) + base

    def enlarged(self, x: torch.Tensor) -> torch.Tensor:
        """Return an image whose last axis is interpolated."""
        n = x.shape[-1]
        first, last = x[..., :1], x[..., -1:]
        padded = torch.cat([first, first, x, last, last], dim=-1).unsqueeze(-1)
        taps = self.taps.to(x.dtype)
        total = padded[..., 0:n, :] * taps[:, 0]
        for k in range(1, 5):
            total = total + padded[..., k : n + k, :] * taps[:, k]
        return total.flatten(-2)
