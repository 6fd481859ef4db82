"""Reduction with an interpolation kernel, with or without a low-pass: the variants of bicubic, and decimation."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from medsr.degradation.base import AxiswiseDegradation, check_choice
from medsr.interpolation import BOUNDARIES, KERNELS, Matrix, kernel_matrix, tap_matrix


def binomial_matrix(n: int) -> Matrix:
    """Return [1, 2, 1] / 4, mirrored about the edge sample, as a matrix (n, n): OpenCV's 3x3 Gaussian of sigma 0."""
    return tap_matrix(np.arange(n, dtype=np.float64), n, lambda x: np.clip(2 - np.abs(x), 0, 2), 2, "mirror", 1.0)


@dataclass(frozen=True, kw_only=True)
class InterpolationDegradation(AxiswiseDegradation):
    """Interpolation at the centres of the LR voxels.

    It is registered under four names:

    - "bicubic": Keys' kernel, widened by the scale, as in MATLAB's imresize (mirrored edges) and in Pillow.
    - "bicubic-no-antialias": chapter 5 of the dissertation, ``cv2.resize(INTER_CUBIC)``. The kernel (a = -0.75) is
      not widened, so that at scale 4 only the central 4 of 4 x 4 HR pixels count. Values may leave the range of HR.
    - "bicubic-binomial": chapter 4 of the dissertation (MIASSR): the same, then [1, 2, 1] / 4 on the LR image. The
      program asks OpenCV for the size int(n / s), which stretches the LR grid over HR: alignment "edges" (give
      `shape`).
    - "decimation": every s-th voxel, beginning with the first (linear interpolation if s is not an integer).

    Attributes:
        kernel: The kernel, one of `interpolation.KERNELS`.
        antialias: Whether the kernel is widened by the scale.
        boundary: The boundary rule of the interpolation, one of `interpolation.BOUNDARIES`.
        lr_blur: Whether the reduced axes of the LR image are blurred with [1, 2, 1] / 4.
    """

    name: str = "bicubic"
    kernel: str = "cubic"
    antialias: bool = True
    boundary: str = "reflect"
    lr_blur: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("kernel", self.kernel, KERNELS)
        check_choice("boundary", self.boundary, BOUNDARIES)

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """Return the matrix of one axis; see `AxiswiseDegradation.axis_matrix`."""
        if scale == 1 and n_hr == n_lr:
            return None
        stretch = float(scale) if self.antialias else 1.0
        matrix = kernel_matrix(self.positions(n_lr, n_hr, scale), n_hr, self.kernel, self.boundary, stretch)
        return binomial_matrix(n_lr) @ matrix if self.lr_blur else matrix
