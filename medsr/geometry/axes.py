"""Read and build affines: the spacing, the directions and the origin of the axes of a grid, in RAS or LPS mm."""

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
_DIRECTIONS = ("LR", "PA", "IS")  # letters of the negative and the positive direction of each world axis


def check_affine(affine: ArrayLike, origin: str = "affine") -> Affine:
    """Return a copy of an affine, or refuse a degenerate one; all readers and grids use this rule.

    Args:
        affine: The voxel-to-world affine, (4, 4).
        origin: The source of the affine, such as a header field, for the error message.

    Raises:
        GridError: If a value is NaN or infinite, a spacing is zero, or the three axes lie in one plane.
    """
    checked = np.array(affine, dtype=np.float64)
    if checked.shape != (4, 4) or not np.isfinite(checked).all():
        found = "NaN or infinite values" if checked.shape == (4, 4) else f"an array of shape {checked.shape}"
        raise GridError(
            f"expected a finite affine (finite 4x4 numbers), got {found} in the {origin}; repair the header"
        )
    with np.errstate(over="ignore"):  # an overflow gives an infinite spacing, which check_spacing refuses
        spacing = np.array(check_spacing(spacing_of(checked), origin))
    if abs(np.linalg.det(checked[:3, :3] / spacing)) < _INDEPENDENT:
        raise GridError(
            f"expected three independent axes, got a degenerate, singular affine from the {origin}; repair the header"
        )
    return checked


def check_spacing(spacing: Any, origin: str = "affine") -> tuple[float, ...]:
    """Return the spacing in mm as floats, or refuse values that are not positive numbers.

    Args:
        spacing: The spacing along each axis in mm.
        origin: The source of the spacing, for the error message.

    Raises:
        GridError: If a value is zero, negative, NaN or infinite.
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
    """Return the unit vectors along the array axes as the columns of a (3, 3) matrix."""
    return np.asarray(affine, dtype=np.float64)[:3, :3] / np.array(spacing_of(affine))


def origin_of(affine: ArrayLike) -> NDArray[np.float64]:
    """Return the world coordinates of the centre of voxel 0."""
    return np.array(np.asarray(affine, dtype=np.float64)[:3, 3])


def affine_of_axes(steps: Sequence[ArrayLike], origin: ArrayLike) -> Affine:
    """Return the affine of the given axes and origin.

    Args:
        steps: The world vector from one voxel to the next, for each of two or three axes.
        origin: The world coordinates of the centre of voxel 0, one per axis or three.
    """
    affine = np.eye(4)
    columns = np.array(steps, dtype=np.float64).T
    affine[: columns.shape[0], : columns.shape[1]] = columns
    affine[: len(np.asarray(origin)), 3] = origin
    return affine


def centred_affine(steps: Sequence[ArrayLike], shape: Sequence[int]) -> Affine:
    """Return the affine of three axes that puts the middle of the image at the origin of the world."""
    affine = affine_of_axes(steps, np.zeros(3))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def ras_lps(affine: ArrayLike) -> Affine:
    """Return an affine converted from RAS to LPS coordinates, or back.

    In DICOM and ITK, coordinates grow towards left and posterior; in nibabel and MONAI, towards right and anterior.
    """
    return _RAS_TO_LPS @ np.asarray(affine, dtype=np.float64)


def in_millimetres(affine: ArrayLike, unit: float) -> Affine:
    """Return an affine with its world coordinates converted to mm.

    Args:
        affine: The affine in another unit.
        unit: The length of that unit in mm.
    """
    converted = np.array(affine, dtype=np.float64)
    converted[:3] *= unit
    return converted


def orthogonal_affine(affine: ArrayLike) -> Affine:
    """Return the nearest affine with perpendicular axes and the same spacing and origin."""
    orthogonal = np.array(affine, dtype=np.float64)
    left, _, right = np.linalg.svd(directions_of(affine))
    orthogonal[:3, :3] = (left @ right) * np.array(spacing_of(affine))
    return orthogonal


def largest_corner_distance(affine: ArrayLike, other: ArrayLike, shape: Sequence[int]) -> float:
    """Return the largest distance in mm between the positions that two affines give the corner voxels of a volume."""
    a, b = np.asarray(affine, dtype=np.float64), np.asarray(other, dtype=np.float64)
    corners = np.array(np.meshgrid(*[(0, max(n - 1, 1)) for n in shape[:3]], indexing="ij")).reshape(3, -1)
    moved = (a[:3, :3] - b[:3, :3]) @ corners + (a[:3, 3] - b[:3, 3])[:, None]
    return float(np.linalg.norm(moved, axis=0).max())


def world_axes(affine: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the world axis (0 right, 1 anterior, 2 superior) nearest each array axis, and its direction (1 or -1)."""
    orientation = nib.orientations.io_orientation(np.asarray(affine, dtype=np.float64)).astype(np.intp)
    return orientation[:, 0], orientation[:, 1]


def axis_codes(affine: ArrayLike) -> str:
    """Return the directions in which the array axes point as letters, such as "LAS" (left, anterior, superior)."""
    return "".join(_DIRECTIONS[axis][0 if sign < 0 else 1] for axis, sign in zip(*world_axes(affine), strict=True))


def anatomical_axis(affine: ArrayLike, plane: str) -> int:
    """Return the array axis most nearly perpendicular to an anatomical plane ("axial", "coronal", "sagittal").

    Raises:
        GridError: If the plane has another name.
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
    """The positions of the slices (X, Y) of a volume, in the world coordinates of its affine.

    Attributes:
        origin: The centre of the first voxel of the first slice in mm.
        row: The unit vector along a row, the direction of the first array axis.
        column: The unit vector along a column.
        normal: The unit vector perpendicular to both, towards the next slice.
        step: The vector from one slice to the next in mm; not along the normal if the gantry was tilted.
        spacing: The distances in mm between columns, between rows and between the origins of slices.
    """

    origin: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    step: NDArray[np.float64]
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, affine: ArrayLike) -> SlicePlaces:
        """Return the positions of the slices of a volume with this affine."""
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
        """Return the centres of the first voxels of the first `count` slices, (count, 3)."""
        return np.asarray(self.origin + np.arange(count)[:, None] * self.step)

    @property
    def distance(self) -> float:
        """The distance in mm between slices along their normal."""
        return abs(float(self.step @ self.normal))
