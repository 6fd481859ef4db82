"""Compute the sizes and the index positions of the grid rule along single axes, in exact arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsr.errors import GridError
from medsr.geometry.scales import Scale, format_scale

ALIGNMENTS = ("half-pixel", "corner", "edges", "first-voxel")  # how an LR grid lies on its HR grid


def output_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """Return the size after scaling: round(n * s) per axis, at least 1."""
    return tuple(max(1, round(n * s)) for n, s in zip(shape, scale, strict=True))


def divisible_shape(shape: Sequence[int], scale: Scale) -> tuple[int, ...]:
    """Return the largest size not above `shape` that `scale` divides to an integer, to crop HR before degrading it.

    Raises:
        GridError: If an axis has too few voxels for the scale.
    """
    sizes = tuple(n - n % s.numerator for n, s in zip(shape, scale, strict=True))
    if 0 in sizes:
        raise GridError(f"an image of {tuple(shape)} voxels is too small to be reduced by {format_scale(scale)}")
    return sizes


def source_positions(indices: ArrayLike, scale: Fraction) -> NDArray[np.float64]:
    """Return the input index (real-valued) at the centre of each output voxel: (i + 1/2) / s - 1/2, rounded once."""
    i = np.asarray(indices, dtype=np.int64)
    p, q = scale.numerator, scale.denominator
    return ((2 * i + 1) * q - p) / (2.0 * p)


def source_voxels(
    indices: ArrayLike, scale: Fraction, mirrored: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the input voxel in which the centre of each output voxel lies, and where in it, in integers.

    A centre on the edge between two voxels belongs to the lower one.

    Args:
        indices: The indices of output voxels; they and input voxels are counted from the first edge of the image.
        scale: The scale along the axis.
        mirrored: Whether the image is flipped. Both indices are then negative, counted from the last edge, and the
            voxels are the same as without flipping.

    Returns:
        The input voxels, the numerators and the denominator: a centre lies numerator / denominator of a voxel beyond
        the lower edge of its input voxel.
    """
    i = np.asarray(indices, dtype=np.int64)
    p, q = scale.numerator, scale.denominator
    voxels = ((2 * i + 1) * q - (0 if mirrored else 1)) // (2 * p)
    return voxels, (2 * i + 1) * q - 2 * p * voxels, 2 * p


def output_range(low: int, high: int, scale: Fraction, size: int) -> tuple[int, int]:
    """Return the output voxels [start, stop) whose centres lie in the input voxels [low, high) of `size`."""
    p, q = scale.numerator, scale.denominator
    most = output_shape((size,), (scale,))[0]
    start, stop = ((2 * p * end - q) // (2 * q) + 1 for end in (low, high))
    return min(start, most), min(stop, most)


def input_range(low: int, high: int, scale: Fraction, size: int, halo: int, align: int = 1) -> tuple[int, int]:
    """Return the input voxels [start, stop) that output voxels [low, high) need, with a halo, clamped to the image.

    Args:
        low: The first output voxel.
        high: The output voxel after the last one.
        scale: The scale along the axis.
        size: The number of input voxels along the axis.
        halo: The number of input voxels of context on either side.
        align: The number to whose multiples start and stop are moved outwards (attention windows); the stop is at
            most `size`.
    """
    p, q = scale.numerator, scale.denominator  # floor and ceiling of low / scale and high / scale, in integers
    start = max(0, low * q // p - halo)
    stop = min(size, -(-high * q // p) + halo)
    return start - start % align, min(size, -(-stop // align) * align)


def sampling_of(alignment: str, n_hr: int, n_lr: int, scale: Fraction) -> tuple[Fraction, Fraction]:
    """Return (start, step) of a reduced axis: voxel i of LR lies at HR index start + i * step, exactly.

    Only "half-pixel" is the grid rule. The other alignments belong to other programs that simulate LR images:
    "corner" joins the centres of the first and last voxels (``scipy.ndimage.zoom``), "edges" stretches the LR grid
    over the whole HR field of view whatever the requested scale (``cv2.resize`` with a size), and "first-voxel"
    keeps the centre of voxel 0 (decimation, a cropped DFT).

    Raises:
        GridError: If the alignment has another name.
    """
    if alignment == "half-pixel":
        return (scale - 1) / 2, scale
    if alignment == "edges":
        step = Fraction(n_hr, n_lr)
        return (step - 1) / 2, step
    if alignment == "corner":
        return Fraction(0), Fraction(n_hr - 1, n_lr - 1) if n_lr > 1 else scale
    if alignment == "first-voxel":
        return Fraction(0), scale
    raise GridError(f"an alignment is one of {', '.join(ALIGNMENTS)}, got {alignment!r}")
