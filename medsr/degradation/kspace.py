"""What an MR scanner does to save time: sample only the centre of k-space."""

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
    """Keep the central 1/s of k-space, reconstruct on the LR grid, amplitudes preserved.

    At integer sizes this is the cropped DFT. Cropping alone leaves voxel 0 of LR on voxel 0 of HR (alignment
    "first-voxel"); the default multiplies by the phase that moves LR voxels to where the grid rule puts them.
    The image is taken as periodic: an edge on one side rings on the other, and values may leave the range of
    HR. A real image stays real (the frequency on the edge of the crop enters by its real part).

    Attributes:
        window: apodisation over the kept frequencies: None, "hamming", "tukey".
        taper: fraction of the frequencies that the Tukey window lowers (1: Hann).
    """

    name: str = "kspace-truncation"
    window: str | None = None
    taper: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("window", self.window, (None, "hamming", "tukey"))
        if not 0 < self.taper <= 1:
            raise InputError(f"taper of a Tukey window lies in (0, 1], got {self.taper}")

    def _apodisation(self, radius: Matrix) -> Matrix:
        """Weight at a fraction `radius` of the largest kept frequency."""
        if self.window == "hamming":
            return 0.54 + 0.46 * np.cos(pi * radius)
        if self.window == "tukey":
            return (1 + np.cos(pi * (radius - 1 + self.taper).clip(0) / self.taper)) / 2
        return np.ones_like(radius)

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """(n_lr, n_hr): sum over kept k of cos(2 pi k (position - n) / n_hr) / n_hr."""
        if scale == 1 and n_hr == n_lr:
            return None
        limit = n_hr / (2 * scale)  # exact: the largest frequency, in cycles per field of view
        k = np.arange(int(limit) + 1)
        weights = self._apodisation(k / float(limit))
        weights[1:] *= 2  # k and -k
        if k[-1] == limit and len(k) > 1:
            weights[-1] /= 2  # on the edge the crop keeps one of the two
        out = 2 * pi * np.outer(self.positions(n_lr, n_hr, scale), k) / n_hr
        into = 2 * pi * np.outer(k, np.arange(n_hr)) / n_hr
        weights = weights[:, None] / n_hr
        return np.cos(out) @ (weights * np.cos(into)) + np.sin(out) @ (weights * np.sin(into))
