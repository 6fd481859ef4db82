"""Truncation of k-space: an MR scanner samples only its centre to save time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import pi

import numpy as np
from scipy.special import expit

from medsr.degradation.base import AxiswiseDegradation, check_choice
from medsr.errors import InputError
from medsr.interpolation import Matrix


@dataclass(frozen=True, kw_only=True)
class KspaceTruncationDegradation(AxiswiseDegradation):
    """Truncation of k-space to its central 1/s and reconstruction on the LR grid, with amplitudes preserved.

    At integer sizes this is the cropped DFT. Cropping alone keeps voxel 0 of LR on voxel 0 of HR (alignment
    "first-voxel"); the default multiplies by the phase that moves the LR voxels to where the grid rule puts them.
    The image is treated as periodic, so that an edge on one side rings on the other, and values may leave the range
    of HR. A real image stays real (the frequency on the edge of the crop contributes its real part).

    A scanner may fill the outer part of k-space with zeros and reconstruct on a finer matrix than it acquired. The LR
    image then has more voxels than information: `extent` is below 1.

    Attributes:
        window: The apodisation of the kept frequencies: None, "hamming", "fermi" or "tukey".
        taper: The fraction of the frequencies that the window lowers. The Tukey window is a raised cosine there (1
            gives the Hann window); the Fermi function has its half value in the middle, and a tenth as its width.
        extent: The largest acquired frequency as a fraction of the LR image's Nyquist frequency, in (0, 1].
    """

    name: str = "kspace-truncation"
    window: str | None = None
    taper: float = 0.5
    extent: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("window", self.window, (None, "hamming", "fermi", "tukey"))
        if not 0 < self.taper <= 1:
            raise InputError(f"the taper of a Tukey or Fermi window must lie in (0, 1], got {self.taper}")
        if not 0 < self.extent <= 1:
            raise InputError(f"the extent of the acquired k-space must lie in (0, 1], got {self.extent}")

    def _apodisation(self, radius: Matrix) -> Matrix:
        """Return the weight at a fraction `radius` of the largest kept frequency."""
        if self.window == "hamming":
            return 0.54 + 0.46 * np.cos(pi * radius)
        if self.window == "fermi":
            return expit((1 - self.taper / 2 - radius) * 10 / self.taper) / expit(
                (1 - self.taper / 2) * 10 / self.taper
            )
        if self.window == "tukey":
            return (1 + np.cos(pi * (radius - 1 + self.taper).clip(0) / self.taper)) / 2
        return np.ones_like(radius)

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """Return the matrix (n_lr, n_hr): the sum over the kept k of cos(2 pi k (position - n) / n_hr) / n_hr."""
        if scale == 1 and n_hr == n_lr:
            return None
        extent = Fraction(self.extent).limit_denominator(10_000)
        limit = extent * n_hr / (2 * scale)  # exact: the largest frequency, in cycles per field of view
        k = np.arange(int(limit) + 1)
        weights = self._apodisation(k / float(limit))
        weights[1:] *= 2  # k and -k
        if k[-1] == limit and len(k) > 1 and extent == 1:
            weights[-1] /= 2  # the crop keeps only one of k and -k on its edge
        out = 2 * pi * np.outer(self.positions(n_lr, n_hr, scale), k) / n_hr
        into = 2 * pi * np.outer(k, np.arange(n_hr)) / n_hr
        weights = weights[:, None] / n_hr
        return np.cos(out) @ (weights * np.cos(into)) + np.sin(out) @ (weights * np.sin(into))
