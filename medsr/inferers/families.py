"""What a network of each family reads for a tile, on which grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from medsr.errors import GridError, InputError
from medsr.geometry import Scale, as_scale, format_scale
from medsr.inferers.tiling import Tile, part
from medsr.interpolation import Matrix, apply_matrices, resampling_matrices
from medsr.networks import Family, NetworkSpec


class Source(Protocol):
    """The network's input, read tile by tile."""

    batch: int
    scale: tuple[int, ...]  # output voxels per input voxel of the network, per axis
    requested: Scale  # what the user asked for

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial size of the grid that is read."""

    def read(self, tile: Tile) -> torch.Tensor:
        """(B, C, *tile)."""


@dataclass
class LowResolution:
    """A fixed network reads the LR image itself and enlarges by its built-in scale."""

    image: torch.Tensor
    scale: tuple[int, ...]
    requested: Scale

    def __post_init__(self) -> None:
        self.batch = self.image.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The LR size."""
        return tuple(self.image.shape[2:])

    def read(self, tile: Tile) -> torch.Tensor:
        """(B, C, *tile) of the LR image."""
        return part(self.image, tile.slices())


@dataclass
class Interpolated:
    """A restore network reads the interpolated image, made where it is read, at global coordinates.

    Guidance images on the SR grid are further channels.
    """

    image: torch.Tensor
    matrices: list[Matrix | None]
    requested: Scale
    reference: torch.Tensor | None = None

    def __post_init__(self) -> None:
        self.batch = self.image.shape[0]
        self.scale = (1,) * len(self.matrices)

    @property
    def shape(self) -> tuple[int, ...]:
        """The SR size."""
        return tuple(n if m is None else m.shape[0] for n, m in zip(self.image.shape[2:], self.matrices, strict=True))

    def read(self, tile: Tile) -> torch.Tensor:
        """(B, C, *tile) of the interpolated image, and the guidance."""
        image = apply_matrices(self.image, self.matrices, tile.slices())
        if self.reference is None:
            return image
        return torch.cat([image, part(self.reference, tile.slices()).to(image)], dim=1)


def make_source(lr: torch.Tensor, scale: Scale, spec: NetworkSpec, reference: torch.Tensor | None = None) -> Source:
    """The source for a network's family.

    Args:
        lr: (B, C, *spatial) LR images with as many spatial axes as the network.
        scale: requested scale per spatial axis.
        spec: the network's.
        reference: guidance on the SR grid, for restore networks.

    Raises:
        GridError: a scale that a fixed network was not built for.
        InputError: a family this inferer cannot run, or guidance it cannot use.
    """
    if spec.family is Family.RESTORE:
        kernel = spec.interpolation or "spline3"
        return Interpolated(lr, resampling_matrices(lr.shape[2:], scale, kernel=kernel), scale, reference)
    if reference is not None:
        raise InputError("only networks that restore an interpolated image take a guidance image")
    if spec.family is not Family.FIXED or spec.scales is None:
        raise InputError(f"networks of the {spec.family.value} family do not enlarge images by themselves")
    for built in (spec.scales, *spec.other_scales):
        if scale == as_scale(list(built), len(scale)):
            return LowResolution(lr, built, scale)
    known = " or ".join(format_scale(as_scale(list(s), len(scale))) for s in (spec.scales, *spec.other_scales))
    raise GridError(f"the network enlarges by {known} only, got {format_scale(scale)}")
