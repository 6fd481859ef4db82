"""Compute the affines of grids that are scaled, sampled, cropped, permuted or flipped."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from medsr.errors import GridError
from medsr.geometry.axes import Affine
from medsr.geometry.scales import Scale

PARALLEL_TOLERANCE = 0.1  # voxels by which parallel axes may drift apart over an image


def scaled_affine(affine: ArrayLike, scale: Scale) -> Affine:
    """Return the affine of a grid scaled by `scale`: A @ [diag(1/s) | (1/s - 1)/2]. Scales below 1 reduce the grid."""
    step = np.eye(4)
    for axis, s in enumerate(scale):
        step[axis, axis] = 1 / s
        step[axis, 3] = (1 / s - 1) / 2
    return np.asarray(affine, dtype=np.float64) @ step


def sampled_affine(affine: ArrayLike, sampling: Sequence[tuple[Fraction, Fraction]]) -> Affine:
    """Return the affine of the grid whose voxel i lies at index start + i * step, (start, step) per axis."""
    change = np.eye(4)
    for axis, (start, step) in enumerate(sampling):
        change[axis, axis], change[axis, 3] = float(step), float(start)
    return np.asarray(affine, dtype=np.float64) @ change


def shifted_affine(affine: ArrayLike, start: Sequence[float]) -> Affine:
    """Return the affine of the image cropped so that index `start` becomes index 0."""
    step = np.eye(4)
    step[: len(start), 3] = start
    return np.asarray(affine, dtype=np.float64) @ step


def relative_sampling(
    affine: ArrayLike, other: ArrayLike, other_shape: Sequence[int]
) -> tuple[tuple[float, float], ...]:
    """Return (start, step) per axis: voxel j of the other image lies at index start + j * step of this one.

    Args:
        affine: The affine of this image.
        other: The affine of the other image.
        other_shape: The size of the other image, along two or three axes.

    Raises:
        GridError: If the axes are not parallel (more than a tenth of a voxel apart somewhere in the image), or run
            in opposite directions.
    """
    ndim = len(other_shape)
    change = np.linalg.solve(np.asarray(affine, dtype=np.float64), np.asarray(other, dtype=np.float64))
    steps = np.diag(change)[:ndim]
    drift = np.abs(change[:ndim, :ndim] - np.diag(steps)) @ np.asarray(other_shape)
    if drift.max() > PARALLEL_TOLERANCE or steps.min() <= 0:
        raise GridError(
            "the axes of the two images are not parallel, or not in the same order and direction; "
            "resample one of them along the axes of the other"
        )
    return tuple((float(change[axis, 3]), float(steps[axis])) for axis in range(ndim))


def reoriented_affine(affine: ArrayLike, shape: Sequence[int], order: Sequence[int], flipped: Sequence[int]) -> Affine:
    """Return the affine of an image whose axes were permuted and then flipped.

    Args:
        affine: The affine of the image before the change.
        shape: The size of the image before the change.
        order: The old axis of each new axis.
        flipped: The new axes that are flipped.
    """
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for axis in range(len(order), 3):
        change[axis, axis] = 1
    for new, old in enumerate(order):
        change[old, new] = -1 if new in flipped else 1
        change[old, 3] = shape[old] - 1 if new in flipped else 0
    return np.asarray(affine, dtype=np.float64) @ change
