"""The sources that networks of each family read tile by tile, each on its own grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from medsr.errors import GridError, InputError
from medsr.geometry import Scale, as_scale, format_scale, output_range
from medsr.inferers.formed import NetworkInputs
from medsr.inferers.tiling import Tile, part
from medsr.interpolation import Matrix, apply_matrices, resampling_matrices
from medsr.networks import Family, NetworkSpec, Query


@dataclass(frozen=True)
class Call:
    """The arguments of the network for a tile, and the part of its output that is wanted.

    Attributes:
        arguments: The arguments after the image.
        size: The spatial size that the output must have.
        wanted: The voxels of the output that belong to the tile.
    """

    arguments: tuple[Any, ...]
    size: tuple[int, ...]
    wanted: tuple[slice, ...]


class Source(Protocol):
    """The network's input, read tile by tile."""

    batch: int
    requested: Scale  # what the user asked for

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial size of the grid that is read."""

    def read(self, tile: Tile) -> torch.Tensor:
        """Return the tile of the input, (B, C, *tile)."""

    def outputs(self, tile: Tile) -> tuple[slice, ...]:
        """Return the voxels of the result that a tile of the input makes."""

    def call(self, tile: Tile, seen: Tile, flipped: Collection[int]) -> Call:
        """Return how the network is called for a tile, from the box that it sees around it.

        Args:
            tile: The tile, in the coordinates of the image flipped along `flipped`.
            seen: The box that the network sees, in the same coordinates.
            flipped: The flipped spatial axes.
        """


class _Enlarging:
    """A source of networks that make a whole number of output voxels of each input voxel."""

    scale: tuple[int, ...]
    told = False  # whether the network must be told its scale

    def outputs(self, tile: Tile) -> tuple[slice, ...]:
        """Return the voxels of the result that a tile of the input makes."""
        return tile.slices(self.scale)

    def call(self, tile: Tile, seen: Tile, flipped: Collection[int]) -> Call:
        """Return a call that enlarges the whole box that is seen."""
        size = tuple((b - a) * s for a, b, s in zip(seen.low, seen.high, self.scale, strict=True))
        arguments = ([float(s) for s in self.scale],) if self.told else ()
        return Call(arguments, size, tile.slices(self.scale, seen.low))


class _ReadsTheImage:
    """A source of networks that read the LR image itself."""

    image: torch.Tensor

    def __post_init__(self) -> None:
        self.batch = self.image.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The LR size."""
        return tuple(self.image.shape[2:])

    def read(self, tile: Tile) -> torch.Tensor:
        """Return the tile of the LR image, (B, C, *tile)."""
        return part(self.image, tile.slices())


@dataclass
class LowResolution(_Enlarging, _ReadsTheImage):
    """The source of fixed networks, which read the LR image itself and enlarge it by a built-in scale."""

    image: torch.Tensor
    scale: tuple[int, ...]
    requested: Scale
    told: bool = False


@dataclass
class Queried(_ReadsTheImage):
    """The source of arbitrary networks, which read the LR image and are asked for voxels at global coordinates."""

    image: torch.Tensor
    requested: Scale

    def _ranges(self, tile: Tile) -> list[tuple[int, int]]:
        bounds = zip(tile.low, tile.high, self.requested, self.shape, strict=True)
        return [output_range(low, high, s, n) for low, high, s, n in bounds]

    def outputs(self, tile: Tile) -> tuple[slice, ...]:
        """Return the voxels of the result whose centres lie in the tile."""
        return tuple(slice(*ends) for ends in self._ranges(tile))

    def call(self, tile: Tile, seen: Tile, flipped: Collection[int]) -> Call:
        """Return a call for those voxels; along a flipped axis they are counted from the former last edge."""
        box = []
        ranges = self._ranges(tile.mirrored(self.shape, flipped))
        for axis, ((low, high), origin, n) in enumerate(zip(ranges, seen.low, self.shape, strict=True)):
            flip = axis in flipped
            box.append((-high, -low, origin - n, True) if flip else (low, high, origin, False))
        query = Query(self.requested, *(tuple(column) for column in zip(*box, strict=True)))
        return Call((None, query), query.shape, tuple(slice(0, n) for n in query.shape))


@dataclass
class Interpolated(_Enlarging):
    """A restore network reads the interpolated image, made where it is read, at global coordinates.

    So is the correction that makes it consistent with its formation, from coefficients on the LR grid: a tile of it is
    what that tile of the whole image would be. Guidance images on the SR grid are further channels.
    """

    inputs: NetworkInputs
    matrices: list[Matrix | None]
    requested: Scale

    def __post_init__(self) -> None:
        self.batch = self.inputs.lr.shape[0]
        self.scale = (1,) * len(self.matrices)

    @property
    def shape(self) -> tuple[int, ...]:
        """The SR size."""
        sizes = zip(self.inputs.lr.shape[2:], self.matrices, strict=True)
        return tuple(n if m is None else m.shape[0] for n, m in sizes)

    def read(self, tile: Tile) -> torch.Tensor:
        """Return the tile of the image to restore and of the guidance, (B, C, *tile)."""
        image = apply_matrices(self.inputs.lr, self.matrices, tile.slices())
        if self.inputs.coefficients is not None:
            image = image + apply_matrices(self.inputs.coefficients, self.inputs.right, tile.slices())
        if self.inputs.guide is None:
            return image
        return torch.cat([image, part(self.inputs.guide, tile.slices()).to(image)], dim=1)


def make_source(inputs: NetworkInputs, scale: Scale, spec: NetworkSpec) -> Source:
    """Return the source for a network's family.

    Args:
        inputs: The LR images, with as many spatial axes as the network, and what else it reads.
        scale: The requested scale per spatial axis.
        spec: The spec of the network.

    Raises:
        GridError: If a fixed network was not built for the scale.
        InputError: If this inferer cannot run the family, or cannot use the guidance.
    """
    lr = inputs.lr
    if spec.family is Family.RESTORE:
        kernel = spec.interpolation or "spline3"
        return Interpolated(inputs, resampling_matrices(lr.shape[2:], scale, kernel=kernel), scale)
    if inputs.guide is not None:
        raise InputError("only networks that restore an interpolated image take a guidance image")
    if spec.family is Family.ARBITRARY:
        if spec.largest_scale is not None and any(s > spec.largest_scale for s in scale):
            raise GridError(
                f"the network enlarges by up to {spec.largest_scale:g} per axis, got {format_scale(scale)}; choose a "
                "smaller scale"
            )
        return Queried(lr, scale)
    if spec.family is not Family.FIXED or spec.scales is None:
        raise InputError(
            f"networks of the {spec.family.value} family do not enlarge images; use one of the restore, fixed or "
            "arbitrary family"
        )
    for built in built_scales(spec):
        if scale == as_scale(list(built), len(scale)):
            return LowResolution(lr, built, scale, told=bool(spec.other_scales))
    known = " or ".join(format_scale(as_scale(list(s), len(scale))) for s in built_scales(spec))
    raise GridError(f"the network enlarges by {known} only, got {format_scale(scale)}; use one of its scales")


def built_scales(spec: NetworkSpec) -> list[tuple[int, ...]]:
    """Return the scales that a fixed network was built for; other networks have none."""
    return [*([] if spec.scales is None else [spec.scales]), *spec.other_scales]
