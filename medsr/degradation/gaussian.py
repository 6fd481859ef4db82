"""Gaussian blur, then sampling with a spline: the LR simulation of Pham et al., on the project's grid."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from medsr.degradation.base import SeparableDegradation
from medsr.errors import InputError
from medsr.interpolation import Matrix, kernel_matrix, tap_matrix


def blur_matrix(n: int, sigma: float, truncate: float = 4.0, boundary: str = "reflect") -> Matrix:
    """(n, n): ``scipy.ndimage.gaussian_filter1d`` as a matrix: sampled Gaussian, cut at `truncate` sigma."""
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.eye(n)

    def gaussian(x: Matrix) -> Matrix:
        return np.where(np.abs(x) <= radius, np.exp(-0.5 * (x / sigma) ** 2), 0.0)

    return tap_matrix(np.arange(n, dtype=np.float64), n, gaussian, radius, boundary, 1.0)


@dataclass(frozen=True, kw_only=True)
class GaussianBlurDegradation(SeparableDegradation):
    """Gaussian blur, then interpolation at the centres of the LR voxels, no other low-pass.

    Pham et al. section 3.1 with sigma 1, except that LR voxels lie where the grid rule puts them; what the authors'
    program does is "pham-scipy-zoom".

    Attributes:
        sigma: standard deviation in HR voxels.
        kernel: of the interpolation, one of `interpolation.KERNELS`.
        truncate: radius of the blur in sigma.
        boundary: of the blur; the interpolation continues the edge value.
        blur_unscaled_axes: also blur axes of scale 1. A thick-slice acquisition is sharp in-plane, so they are left
            alone by default; the paper blurs isotropically, but only reduces isotropically too.
    """

    name: str = "gaussian-blur"
    sigma: float = 1.0
    kernel: str = "spline3"
    truncate: float = 4.0
    boundary: str = "reflect"
    blur_unscaled_axes: bool = False

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise InputError(f"sigma of a blur must be at least 0 HR voxels, got {self.sigma}")

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """See `SeparableDegradation.axis_matrix`."""
        if scale == 1 and n_hr == n_lr:
            return (
                blur_matrix(n_hr, self.sigma, self.truncate, self.boundary)
                if self.blur_unscaled_axes
                else None
            )
        sample = kernel_matrix(self.positions(n_lr, n_hr, scale), n_hr, self.kernel)
        return sample @ blur_matrix(n_hr, self.sigma, self.truncate, self.boundary)
