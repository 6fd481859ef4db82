"""Truncation of k-space: an MR scanner samples only its centre to save time."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import pi

import numpy as np

from medsr.degradation.base import SeparableDegradation, check_choice
from medsr.errors import InputError
from medsr.interpolation import Matrix


@dataclass(frozen=True, kw_only=True)
class KspaceTruncationDegradation(SeparableDegradation):
    """Truncation of k-space to its central 1/s and reconstruction on the LR grid, with amplitudes preserved.

    At integer sizes this is the cropped DFT. Cropping alone keeps voxel 0 of LR on voxel 0 of HR (alignment
    "first-voxel"); the default multiplies by the phase that moves the LR voxels to where the grid rule puts them.
    The image is treated as periodic, so that an edge on one side rings on the other, and values may leave the range
    of HR. A real image stays real (the frequency on the edge of the crop contributes its real part).

    Attributes:
        window: The apodisation of the kept frequencies: None, "hamming" or "tukey".
        taper: The fraction of the frequencies that the Tukey window lowers (1 gives the Hann window).
    """

    name: str = "kspace-truncation"
    window: str | None = None
    taper: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("window", self.window, (None, "hamming", "tukey"))
        if not 0 < self.taper <= 1:
            raise InputError(f"the taper of a Tukey window must lie in (0, 1], got {self.taper}")

    def _apodisation(self, radius: Matrix) -> Matrix:
        """Return the weight at a fraction `radius` of the largest kept frequency."""
        if self.window == "hamming":
            return 0.54 + 0.46 * np.cos(pi * radius)
        if self.window == "tukey":
            return (1 + np.cos(pi * (radius - 1 + self.taper).clip(0) / self.taper)) / 2
        return np.ones_like(radius)

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """Return the matrix (n_lr, n_hr): the sum over the kept k of cos(2 pi k (position - n) / n_hr) / n_hr."""
        if scale == 1 and n_hr == n_lr:
            return None
        limit = n_hr / (2 * scale)  # exact: the largest frequency, in cycles per field of view
        k = np.arange(int(limit) + 1)
        weights = self._apodisation(k / float(limit))
        weights[1:] *= 2  # k and -k
        if k[-1] == limit and len(k) > 1:
            weights[-1] /= 2  # the crop keeps only one of k and -k on its edge
        out = 2 * pi * np.outer(self.positions(n_lr, n_hr, scale), k) / n_hr
        into = 2 * pi * np.outer(k, np.arange(n_hr)) / n_hr
        weights = weights[:, None] / n_hr
        return np.cos(out) @ (weights * np.cos(into)) + np.sin(out) @ (weights * np.sin(into))
