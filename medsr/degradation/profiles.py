"""Averaging over the extent of an LR voxel: the block mean and the slice profiles of multi-slice acquisitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, log, pi, sqrt

import numpy as np
from scipy.special import erf

from medsr.degradation.base import AxiswiseDegradation, check_choice
from medsr.errors import InputError
from medsr.interpolation import Matrix, fold_indices

# The antiderivatives of a profile p(x) with unit area and of x p(x).
Moments = Callable[[Matrix], tuple[Matrix, Matrix]]
_RAMP = 1 / 3  # of the FWHM of a trapezoid: its ramps
_REACH = 5.0  # a Gaussian profile is cut at this many standard deviations, which loses 6e-7 of its area


def _gaussian(fwhm: float) -> Moments:
    sigma = fwhm / sqrt(8 * log(2))

    def moments(x: Matrix) -> tuple[Matrix, Matrix]:
        x = x.clip(-_REACH * sigma, _REACH * sigma) / sigma
        return erf(x / sqrt(2)) / 2, -sigma * np.exp(-(x**2) / 2) / sqrt(2 * pi)

    return moments


def _box(width: float) -> Moments:
    def moments(x: Matrix) -> tuple[Matrix, Matrix]:
        x = x.clip(-width / 2, width / 2)
        return x / width, x**2 / (2 * width)

    return moments


def _trapezoid(fwhm: float) -> Moments:
    """Return the moments of a trapezoid with ramps of a third of its FWHM: the convolution of two boxes."""
    ramp = _RAMP * fwhm
    inner, outer = (fwhm - ramp) / 2, (fwhm + ramp) / 2

    def moments(x: Matrix) -> tuple[Matrix, Matrix]:
        distance = np.abs(x).clip(0, outer)
        beyond = (distance - inner).clip(0)  # into the ramp, where p = (outer - x) / (ramp * fwhm)
        area = distance.clip(0, inner) + beyond - beyond**2 / (2 * ramp)
        flat = distance.clip(0, inner)
        moment = flat**2 / 2 + inner * beyond + beyond**2 * (ramp - inner) / (2 * ramp) - beyond**3 / (3 * ramp)
        return np.sign(x) * area / fwhm, moment / fwhm

    return moments


_PROFILES: dict[str, tuple[Callable[[float], Moments], float]] = {  # the moments and the half width in FWHM
    "gaussian": (_gaussian, _REACH / sqrt(8 * log(2))),
    "box": (_box, 0.5),
    "trapezoid": (_trapezoid, (1 + _RAMP) / 2),
}


def profile_matrix(positions: Matrix, n: int, profile: str, fwhm: float, boundary: str = "nearest") -> Matrix:
    """Return the matrix (len(positions), n) that integrates image times profile, for an image linear in each voxel.

    The mean of a voxel is its value, and its slope is the central difference. Without slopes a box that cuts voxels
    (at any scale that is not an integer) would shift the image by a tenth of an HR voxel.

    Args:
        positions: The centres of the profiles, as HR indices.
        n: The number of HR voxels.
        profile: The form of the profile, "gaussian", "trapezoid" or "box".
        fwhm: The full width at half maximum, in HR voxels.
        boundary: The boundary rule for voxels outside the image, one of `interpolation.BOUNDARIES`.
    """
    make, half_width = _PROFILES[profile]
    reach = int(np.ceil(half_width * fwhm)) + 2
    voxels = np.floor(positions).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
    edges = np.concatenate([voxels, voxels[:, -1:] + 1], axis=1) - 0.5 - positions[:, None]
    area, moment = (np.diff(m, axis=1) for m in make(fwhm)(edges))
    area, moment = (m / area.sum(axis=1, keepdims=True) for m in (area, moment))
    slope = moment - (voxels - positions[:, None]) * area  # the weight of the slope within each voxel
    matrix = np.zeros((len(positions), n))
    rows = np.broadcast_to(np.arange(len(positions))[:, None], voxels.shape)
    for offset, weight in ((0, area), (1, slope / 2), (-1, -slope / 2)):
        columns, keep = fold_indices(voxels + offset, n, boundary)
        np.add.at(matrix, (rows[keep], columns[keep]), weight[keep])
    return matrix


@dataclass(frozen=True, kw_only=True)
class SliceProfileDegradation(AxiswiseDegradation):
    """Integration of HR over a profile that is centred on each LR voxel; axes of scale 1 stay as they are.

    It is registered as "slice-profile" (Gaussian, for the through-plane axis of thick slices) and "block-mean" (a
    box as wide as the LR voxel, which at integer scales is the mean of the HR voxels in it).

    Attributes:
        profile: The form of the profile, "gaussian", "trapezoid" or "box".
        thickness: The slice thickness in units of the LR spacing; below 1 the slices have gaps, above 1 they overlap.
        fwhm: The full width at half maximum of the profile, in units of the slice thickness.
    """

    name: str = "slice-profile"
    profile: str = "gaussian"
    thickness: float = 1.0
    fwhm: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("profile", self.profile, tuple(_PROFILES))
        for what in ("thickness", "fwhm"):
            value = getattr(self, what)
            if not (isfinite(value) and value > 0):
                raise InputError(f"the {what} of a slice profile must be positive, got {value}")

    @classmethod
    def from_mm(
        cls,
        spacing: float,
        thickness: float | None = None,
        fwhm: float | None = None,
        profile: str = "gaussian",
    ) -> SliceProfileDegradation:
        """Return the degradation of an acquisition whose lengths are known in mm.

        Args:
            spacing: The distance between slice centres in mm (DICOM Spacing Between Slices).
            thickness: The slice thickness in mm (DICOM Slice Thickness); the spacing by default.
            fwhm: The full width at half maximum of the profile in mm; the thickness by default.
            profile: The form of the profile, "gaussian", "trapezoid" or "box".

        Raises:
            InputError: If a length is not positive.
        """
        thickness = spacing if thickness is None else thickness
        fwhm = thickness if fwhm is None else fwhm
        if not min(spacing, thickness, fwhm) > 0:
            raise InputError(
                f"the spacing, thickness and FWHM of slices must be positive mm, got {spacing}, {thickness}, {fwhm}"
            )
        return cls(profile=profile, thickness=thickness / spacing, fwhm=fwhm / thickness)

    def axis_matrix(self, n_hr: int, n_lr: int, scale: Fraction) -> Matrix | None:
        """Return the matrix of one axis; see `AxiswiseDegradation.axis_matrix`."""
        if scale == 1 and n_hr == n_lr:
            return None
        width = float(scale) * self.thickness * self.fwhm
        return profile_matrix(self.positions(n_lr, n_hr, scale), n_hr, self.profile, width)
