"""Separable resampling with one matrix per axis: any real scale, any device, differentiable, exact at borders.

An image is resampled by multiplying each axis by a matrix (outputs x inputs). Rows of the same matrices give a
region of the result without computing the rest (tiles at global coordinates), and their transposes give the
adjoint. The matrices are cheap to build and are cached. On a CPU the three products are about twenty times
faster than scipy's splines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medsr.errors import GridError
from medsr.geometry import Scale, output_shape, source_positions

Matrix = NDArray[np.float64]
_SPLINE_PADDING = 12  # samples of edge padding before the recursive prefilter, as in scipy for mode="nearest"


def _cubic(a: float) -> Callable[[Matrix], Matrix]:
    """Return Keys' cubic convolution kernel (1981) with the free parameter `a`."""

    def kernel(x: Matrix) -> Matrix:
        x = np.abs(x)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


def _bspline3(x: Matrix) -> Matrix:
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.where(x < 2, (2 - x) ** 3 / 6, 0.0))


_KERNELS: dict[str, tuple[Callable[[Matrix], Matrix], float]] = {  # the kernel and its half width in samples
    "nearest": (lambda x: ((x >= -0.5) & (x < 0.5)).astype(np.float64), 0.5),
    "linear": (lambda x: np.clip(1 - np.abs(x), 0, None), 1),
    "cubic": (_cubic(-0.5), 2),  # Keys' third-order choice; also Pillow's and MATLAB's
    "cubic-0.75": (_cubic(-0.75), 2),  # OpenCV's and PyTorch's
    "spline3": (_bspline3, 2),  # interpolating cubic B-spline, scipy's order 3
}
KERNELS = tuple(_KERNELS)
BOUNDARIES = ("nearest", "reflect", "mirror", "zero")


def fold_indices(indices: NDArray[np.int64], n: int, boundary: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Map indices outside [0, n) into the range by a boundary rule.

    "nearest" repeats the edge sample, "reflect" mirrors about the edge (d c b a | a b c d), "mirror" mirrors
    about the edge sample (d c b | a b c d), and "zero" drops the tap.

    Returns:
        The indices within [0, n), and a mask that is False for the taps to drop.

    Raises:
        GridError: If the boundary is unknown.
    """
    keep = np.ones(indices.shape, dtype=bool)
    if boundary == "nearest":
        return indices.clip(0, n - 1), keep
    if boundary == "reflect":
        period = np.mod(indices, 2 * n)
        return np.minimum(period, 2 * n - 1 - period), keep
    if boundary == "mirror":
        period = np.mod(indices, max(2 * n - 2, 1))
        return np.minimum(period, max(2 * n - 2, 1) - period) if n > 1 else np.zeros_like(indices), keep
    if boundary == "zero":
        keep = (indices >= 0) & (indices < n)
        return indices.clip(0, n - 1), keep
    raise GridError(f"a boundary is one of {', '.join(BOUNDARIES)}, got {boundary!r}")


def tap_matrix(
    positions: Matrix,
    n_in: int,
    kernel: Callable[[Matrix], Matrix],
    half_width: float,
    boundary: str,
    stretch: float,
) -> Matrix:
    """Return the weights (len(positions), n_in) of a finite kernel that is centred at real-valued input positions.

    Args:
        positions: The centres of the kernel, in samples of the input.
        n_in: The number of input samples.
        kernel: The function that gives the kernel's weight at a distance.
        half_width: The support of the kernel on either side, in samples before stretching.
        boundary: The rule for taps outside the input, one of `BOUNDARIES`.
        stretch: The factor by which the kernel is widened (and lowered) to low-pass the image before it is
            reduced; each row sums to one.
    """
    reach = int(np.ceil(half_width * stretch)) + 1
    taps = np.floor(positions).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    weights = kernel((taps - positions[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    columns, keep = fold_indices(taps, n_in, boundary)
    matrix = np.zeros((len(positions), n_in))
    rows = np.broadcast_to(np.arange(len(positions))[:, None], taps.shape)
    np.add.at(matrix, (rows[keep], columns[keep]), weights[keep])
    return matrix


def kernel_matrix(positions: Matrix, n_in: int, kernel: str, boundary: str = "nearest", stretch: float = 1.0) -> Matrix:
    """Return the matrix (len(positions), n_in) that interpolates with a named kernel at real-valued input positions.

    Raises:
        GridError: If the kernel or the boundary is unknown.
    """
    if kernel not in _KERNELS:
        raise GridError(f"an interpolation kernel is one of {', '.join(KERNELS)}, got {kernel!r}")
    function, half_width = _KERNELS[kernel]
    if kernel != "spline3":
        return tap_matrix(positions, n_in, function, half_width, boundary, stretch)
    if boundary not in ("nearest", "mirror"):
        raise GridError(f"spline interpolation takes the boundary nearest or mirror, got {boundary!r}")
    padding = _SPLINE_PADDING if boundary == "nearest" else 0
    samples = np.pad(np.eye(n_in), ((padding, padding), (0, 0)), mode="edge")
    coefficients = ndimage.spline_filter1d(samples, order=3, axis=0, mode="mirror") if len(samples) > 1 else samples
    reach = positions + padding
    if boundary == "nearest":  # the edge value continues beyond the padding; "mirror" continues for ever
        reach = reach.clip(0, len(samples) - 1)
    return tap_matrix(reach, len(samples), function, half_width, "mirror", stretch) @ coefficients


@lru_cache(maxsize=64)
def resampling_matrix(
    n_in: int, n_out: int, scale: Fraction, kernel: str, boundary: str = "nearest", antialias: bool = False
) -> Matrix:
    """Return the matrix (n_out, n_in) that resamples one axis by `scale` under the grid rule (edges coincide).

    Args:
        n_in: The number of input samples.
        n_out: The number of output samples.
        scale: The factor by which the axis is enlarged.
        kernel: The name of the kernel, one of `KERNELS`.
        boundary: The rule for taps outside the input, one of `BOUNDARIES`.
        antialias: Whether the kernel is widened by 1/scale when the axis is reduced.
    """
    stretch = max(1.0, float(1 / scale)) if antialias else 1.0
    return kernel_matrix(source_positions(np.arange(n_out), scale), n_in, kernel, boundary, stretch)


def resampling_matrices(
    shape: Sequence[int],
    scale: Scale,
    *,
    new_shape: Sequence[int] | None = None,
    kernel: str = "spline3",
    boundary: str = "nearest",
    antialias: bool = False,
) -> list[Matrix | None]:
    """Return one resampling matrix per axis, or None for an axis that does not change."""
    sizes = output_shape(shape, scale) if new_shape is None else tuple(new_shape)
    return [
        None if s == 1 and n == m else resampling_matrix(n, m, s, kernel, boundary, antialias)
        for n, m, s in zip(shape, sizes, scale, strict=True)
    ]


def apply_matrices(
    image: torch.Tensor, matrices: Sequence[Matrix | None], region: Sequence[slice] | None = None
) -> torch.Tensor:
    """Multiply each spatial axis of (B, C, *spatial) by its matrix (outputs x inputs).

    Args:
        image: The image, (B, C, *spatial).
        matrices: One matrix per spatial axis; None leaves the axis as it is.
        region: The output voxels to compute, one slice per axis; all of them by default.
    """
    spatial = image.ndim - len(matrices)
    growth = []
    for axis, matrix in enumerate(matrices):
        rows = slice(None) if region is None else region[axis]
        if matrix is None:
            image = image[(slice(None),) * (spatial + axis) + (rows,)]
        else:
            growth.append((matrix[rows].shape[0] / matrix.shape[1], axis, matrix[rows]))
    for _, axis, matrix in sorted(growth, key=lambda g: g[:2]):  # shrinking axes first, for the least work
        weights = torch.as_tensor(matrix, dtype=image.dtype).to(image.device)
        image = torch.movedim(torch.tensordot(weights, image, dims=([1], [spatial + axis])), 0, spatial + axis)
    return image.contiguous()


def transposed(matrices: Sequence[Matrix | None]) -> list[Matrix | None]:
    """Return the matrices of the adjoint operator."""
    return [None if m is None else np.ascontiguousarray(m.T) for m in matrices]


def resize(
    image: torch.Tensor,
    scale: Scale,
    *,
    new_shape: Sequence[int] | None = None,
    kernel: str = "spline3",
    boundary: str = "nearest",
    antialias: bool = False,
) -> torch.Tensor:
    """Resample (B, C, *spatial) by `scale` under the grid rule.

    The default is cubic-spline interpolation. It equals ``scipy.ndimage.zoom(order=3, mode="nearest",
    grid_mode=True)`` wherever the output sizes are ``n * s`` exactly.

    Args:
        image: The image, (B, C, *spatial).
        scale: The factor for each axis.
        new_shape: The output sizes; round(n * s) by default.
        kernel: The name of the kernel, one of `KERNELS`.
        boundary: The rule for taps outside the image, one of `BOUNDARIES`.
        antialias: Whether the kernel is widened by 1/scale when an axis is reduced.
    """
    matrices = resampling_matrices(
        image.shape[2:], scale, new_shape=new_shape, kernel=kernel, boundary=boundary, antialias=antialias
    )
    return apply_matrices(image, matrices)
