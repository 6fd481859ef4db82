"""What the columns of an affine say: spacing, directions and origin of a grid's axes, in RAS or LPS millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsr.errors import GridError

Affine = NDArray[np.float64]

_INDEPENDENT = 1e-4  # least volume that three unit axes span: 1 when they are orthogonal, 0 when they share a plane
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse
_PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # anatomical plane -> world axis it is perpendicular to


def check_affine(affine: ArrayLike, origin: str = "affine") -> Affine:
    """Return a copy of an affine that describes a grid: the one rule of what is degenerate.

    Args:
        affine: (4, 4), voxel index -> world.
        origin: where it comes from, such as a field of a header, for the message.

    Raises:
        GridError: a value is NaN or infinite, a spacing is zero, or the three axes lie in one plane.
    """
    checked = np.array(affine, dtype=np.float64)
    if checked.shape != (4, 4) or not np.isfinite(checked).all():
        found = "NaN or infinite values" if checked.shape == (4, 4) else f"an array of shape {checked.shape}"
        raise GridError(
            f"expected a finite affine (finite 4x4 numbers), got {found} in the {origin}; repair the header"
        )
    with np.errstate(over="ignore"):  # what overflows is no spacing
        spacing = np.array(check_spacing(spacing_of(checked), origin))
    if abs(np.linalg.det(checked[:3, :3] / spacing)) < _INDEPENDENT:
        raise GridError(
            f"expected three independent axes, got a degenerate, singular affine from the {origin}; repair the header"
        )
    return checked


def check_spacing(spacing: Any, origin: str = "affine") -> tuple[float, ...]:
    """Return voxel sizes in mm that are positive numbers.

    Args:
        spacing: one value per axis.
        origin: where they come from, for the message.

    Raises:
        GridError: a value is zero, negative, NaN or infinite.
    """
    values = tuple(float(s) for s in spacing)
    if not all(np.isfinite(s) and s > 0 for s in values):
        shown = ", ".join(f"{s:g}" for s in values)
        raise GridError(
            f"expected a spacing above 0 mm on every axis, got a degenerate ({shown}) from the {origin}; "
            "repair the header"
        )
    return values


def spacing_of(affine: ArrayLike, ndim: int = 3) -> tuple[float, ...]:
    """Return the voxel size in mm along each array axis."""
    columns = np.asarray(affine, dtype=np.float64)[:3, :ndim]
    return tuple(float(v) for v in np.linalg.norm(columns, axis=0))


def directions_of(affine: ArrayLike) -> NDArray[np.float64]:
    """Return the unit vectors along the array axes, (3, 3), one a column."""
    return np.asarray(affine, dtype=np.float64)[:3, :3] / np.array(spacing_of(affine))


def origin_of(affine: ArrayLike) -> NDArray[np.float64]:
    """Return the world coordinates of the centre of voxel 0."""
    return np.array(np.asarray(affine, dtype=np.float64)[:3, 3])


def affine_of_axes(steps: Sequence[ArrayLike], origin: ArrayLike) -> Affine:
    """Return the affine whose axes are these.

    Args:
        steps: world vector from one voxel to the next along each of two or three axes.
        origin: world coordinates of the centre of voxel 0, as many as there are axes or three.
    """
    affine = np.eye(4)
    columns = np.array(steps, dtype=np.float64).T
    affine[: columns.shape[0], : columns.shape[1]] = columns
    affine[: len(np.asarray(origin)), 3] = origin
    return affine


def centred_affine(steps: Sequence[ArrayLike], shape: Sequence[int]) -> Affine:
    """Return the affine of three axes with the middle of the image at the world's origin."""
    affine = affine_of_axes(steps, np.zeros(3))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def ras_lps(affine: ArrayLike) -> Affine:
    """Turn an affine from RAS to LPS coordinates, or back.

    DICOM and ITK count millimetres towards left and posterior, nibabel and MONAI towards right and anterior.
    """
    return _RAS_TO_LPS @ np.asarray(affine, dtype=np.float64)


def in_millimetres(affine: ArrayLike, unit: float) -> Affine:
    """Return an affine whose world coordinates are in mm.

    Args:
        affine: in another unit.
        unit: that unit in mm.
    """
    converted = np.array(affine, dtype=np.float64)
    converted[:3] *= unit
    return converted


def orthogonal_affine(affine: ArrayLike) -> Affine:
    """Return the nearest affine of the same spacing and origin with perpendicular axes."""
    orthogonal = np.array(affine, dtype=np.float64)
    left, _, right = np.linalg.svd(directions_of(affine))
    orthogonal[:3, :3] = (left @ right) * np.array(spacing_of(affine))
    return orthogonal


def largest_corner_distance(affine: ArrayLike, other: ArrayLike, shape: Sequence[int]) -> float:
    """Return the largest distance in mm between where two affines place the corner voxels of a volume."""
    a, b = np.asarray(affine, dtype=np.float64), np.asarray(other, dtype=np.float64)
    corners = np.array(np.meshgrid(*[(0, max(n - 1, 1)) for n in shape[:3]], indexing="ij")).reshape(3, -1)
    moved = (a[:3, :3] - b[:3, :3]) @ corners + (a[:3, 3] - b[:3, 3])[:, None]
    return float(np.linalg.norm(moved, axis=0).max())


def world_axes(affine: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the world axis (0 right, 1 anterior, 2 superior) nearest each array axis, and its direction (1 or -1)."""
    orientation = nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64)).astype(np.intp)
    return orientation[:, 0], orientation[:, 1]


def anatomical_axis(affine: ArrayLike, plane: str) -> int:
    """Return the array axis most nearly perpendicular to an anatomical plane ("axial", "coronal", "sagittal").

    Raises:
        GridError: another plane's name.
    """
    if plane not in _PLANES:
        raise GridError(f"a slice orientation is one of {', '.join(_PLANES)}, got {plane!r}")
    world = nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64))[:, 0]
    return int(np.flatnonzero(world == _PLANES[plane])[0])


def slice_normal(row: NDArray[np.float64], column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the unit vector normal to a slice, from the directions of its rows and columns."""
    normal = np.cross(row, column)
    return np.asarray(normal / np.linalg.norm(normal))


class SlicePlaces(NamedTuple):
    """Where the slices (X, Y) of a volume lie, in the world coordinates of its affine.

    Attributes:
        origin: centre of the first voxel of the first slice, mm.
        row: unit vector along a row, in which the first array axis runs.
        column: unit vector along a column.
        normal: unit vector perpendicular to both, towards the next slice.
        step: from one slice to the next, mm; not along the normal where the gantry was tilted.
        spacing: mm between columns, between rows and between origins of slices.
    """

    origin: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    step: NDArray[np.float64]
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, affine: ArrayLike) -> SlicePlaces:
        """Return the places of the slices of a volume with this affine."""
        matrix = np.asarray(affine, dtype=np.float64)
        directions, step = directions_of(matrix), matrix[:3, 2]
        row, column = directions[:, 0], directions[:, 1]
        normal = slice_normal(row, column)
        along = normal if normal @ step >= 0 else -normal
        return cls(matrix[:3, 3], row, column, along, step, spacing_of(matrix))

    def position(self, index: int) -> NDArray[np.float64]:
        """Return the centre of the first voxel of a slice."""
        return self.origin + index * self.step

    def positions(self, count: int) -> NDArray[np.float64]:
        """Return those of the first `count` slices, (count, 3)."""
        return np.asarray(self.origin + np.arange(count)[:, None] * self.step)

    @property
    def distance(self) -> float:
        """Distance in mm between slices, along their normal."""
        return abs(float(self.step @ self.normal))
