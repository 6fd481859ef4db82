"""The grid of a 3D image: its size and its affine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from medsr.errors import GridError
from medsr.geometry.affines import scaled_affine, shifted_affine
from medsr.geometry.axes import check_affine, directions_of, spacing_of
from medsr.geometry.sampling import divisible_shape, output_shape
from medsr.geometry.scales import Scale, format_scale


@dataclass(frozen=True, eq=False)
class Grid:
    """The positions of the voxels of a 3D image, given by its size and its voxel-to-world affine (mm).

    Attributes:
        shape: The number of voxels along each axis.
        affine: The voxel-to-world affine, (4, 4), float64.

    Raises:
        GridError: If a size is below 1, or the affine is not finite or has a zero or degenerate axis.

    Examples:
        The SR grid of a volume with slices 5 mm apart, made isotropic:

        >>> import numpy as np
        >>> from medsr.geometry import Grid, scale_for_spacing
        >>> lr = Grid((240, 240, 30), np.diag([1.0, 1.0, 5.0, 1.0]))
        >>> scale = scale_for_spacing(lr.spacing, 1.0, lr.shape)
        >>> sr = lr.enlarged(scale)
        >>> sr.shape, sr.spacing
        ((240, 240, 150), (1.0, 1.0, 1.0))

        The fields of view coincide, so the centre of the first voxel moves by -2 mm along the third axis:

        >>> sr.affine[:3, 3].tolist()
        [0.0, 0.0, -2.0]
        >>> bool(np.allclose(sr.edges(), lr.edges()))
        True
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GridError(f"expected a 3D image with at least one voxel on every axis, got size {self.shape}")
        object.__setattr__(self, "affine", check_affine(self.affine))

    @property
    def spacing(self) -> tuple[float, ...]:
        """The spacing in mm along each array axis."""
        return spacing_of(self.affine)

    @property
    def is_sheared(self) -> bool:
        """Whether two axes are not perpendicular (gantry tilt): the cosine of their angle exceeds 1e-5."""
        directions = directions_of(self.affine)
        return bool(np.abs(directions.T @ directions - np.eye(3)).max() > 1e-5)

    def enlarged(self, scale: Scale) -> Grid:
        """Return the SR grid of this LR grid."""
        return Grid(output_shape(self.shape, scale), scaled_affine(self.affine, scale))

    def reduced(self, scale: Scale) -> Grid:
        """Return the LR grid of this HR grid.

        Raises:
            GridError: If the sizes are not divisible by the scale; crop to `divisible_shape` first.
        """
        if divisible_shape(self.shape, scale) != self.shape:
            raise GridError(
                f"{self.shape} voxels cannot be reduced by {format_scale(scale)} exactly; "
                f"crop to {divisible_shape(self.shape, scale)} first"
            )
        inverse = tuple(1 / s for s in scale)
        return Grid(output_shape(self.shape, inverse), scaled_affine(self.affine, inverse))

    def cropped(self, start: Sequence[int], shape: Sequence[int]) -> Grid:
        """Return the grid of the sub-image that begins at index `start`."""
        return Grid(tuple(shape), shifted_affine(self.affine, start))

    def nearest_index(self, point: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the index of the voxel of the image nearest to a point in the world (mm)."""
        index = np.linalg.solve(self.affine, np.append(point, 1.0))[:3].round().astype(np.intp)
        return index.clip(0, np.array(self.shape) - 1)

    def edges(self) -> NDArray[np.float64]:
        """Return the world coordinates (mm) of the eight corners of the field of view, (2, 2, 2, 3)."""
        ends = [(-0.5, n - 0.5) for n in self.shape]
        index = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1)
        return index @ self.affine[:3, :3].T + self.affine[:3, 3]

    def distance(self, other: Grid) -> float:
        """Return the largest distance in mm between corners of the two fields of view; inf if the sizes differ."""
        if self.shape != other.shape:
            return inf
        return float(np.linalg.norm(self.edges() - other.edges(), axis=-1).max())
